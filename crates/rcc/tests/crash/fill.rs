//! A project with entries of every kind, and an agent's script that changes every kind in every way.

use std::os::unix::net::UnixListener;

use rustix::fs::{XattrFlags, setxattr};

use super::{Bench, shell};

/// How large a project is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Its parts; each has every kind of entry, 67 of them.
    pub(crate) parts: usize,
    /// Parts that an agent changes: what a moment costs grows with them, and so does the number of moments.
    pub(crate) changed: usize,
}

pub(crate) const SMALL: Size = Size {
    parts: 1,
    changed: 1,
};
/// More than 2,000 entries.
pub(crate) const LARGE: Size = Size {
    parts: 34,
    changed: 17,
};

/// Makes a project of so many parts; each has every kind of entry.
pub(crate) fn fill(bench: &Bench, parts: usize) {
    let make = format!(
        r#"long=$(printf 'n%.0s' {{1..255}})
for part in $(seq {parts}); do
mkdir p$part; cd p$part
for name in text rewritten emptied grown removed linked named both again mode noted closed shared kept1 kept2 to-directory to-link "$long" $'\xff\xfe not text' $'new\nline' '.hidden' ' blank'; do
	echo "$name $part of the user" > "$name"
done
mkdir -p with/deep gone/deep gone/empty holder rebuilt dressed/in open empty-kept empty-removed empty-filled linked-too
for name in with/file with/deep/b gone/a gone/deep/b gone/closed holder/x rebuilt/old rebuilt/same dressed/z dressed/in/y open/w linked-too/x; do
	echo "$name $part of the user" > $name
done
: > empty; truncate -s 70000 sparse; echo end >> sparse; truncate -s 40000 hole
ln linked other-name; ln named linked-too/named; ln both both-2; ln both linked-too/both-3; ln gone/a gone/again; ln kept1 kept-link; ln shared linked-too/shared
ln -s kept1 link; ln -s kept1 link-removed; ln -s nowhere link-dangling; ln -s ../p1 link-to-file; ln -s "$long" link-kept; ln -s kept1 link-to-directory
mkfifo fifo with/deep/fifo
cd ..
done"#
    );
    shell(bench, &make);
    let project = bench.project();
    drop(UnixListener::bind(project.join("p1/socket")).unwrap());
    for part in 1..=parts {
        let part = project.join(format!("p{part}"));
        for name in [
            "kept2",
            "noted",
            "gone",
            "gone/a",
            "dressed",
            "removed",
            "with",
            "with/file",
        ] {
            // No text.
            let value = format!("{name} of the user\x01");
            let flags = XattrFlags::empty();
            setxattr(part.join(name), "user.rcc-test", value.as_bytes(), flags).unwrap();
        }
    }
    shell(
        bench,
        "chmod 751 p*/gone/a; chmod 400 p*/kept2; chmod 444 p*/closed p*/gone/closed; chmod 711 p*/with; chmod 2750 p*/empty-kept
chmod 4755 p*/removed; chmod 1777 p*/open; chmod 500 p*/empty-removed; find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +",
    );
}

/// What an agent does to so many parts.
pub(crate) fn work(parts: usize) -> String {
    format!(
        r#"set -e
long=$(printf 'n%.0s' {{1..255}})
for part in $(seq {parts}); do
cd p$part
echo more >> text; echo $part > rewritten; : > emptied; head -c 9000 /dev/zero >> grown
echo more >> linked; echo more >> both; echo more >> both-2; echo more >> "$long"; echo more >> $'\xff\xfe not text'; echo more >> $'new\nline'; echo more > empty
echo more >> sparse; truncate -s 50000 hole; echo more >> again; echo "again $part of the user" > again
rm removed named link-removed gone/a; rm -r gone empty-removed holder to-directory to-link rebuilt link-to-file link-to-directory ' blank'
mkdir -p to-directory new/deep new/empty rebuilt link-to-directory
echo x | tee holder to-directory/in link-to-file new/deep/file new/deep/other .new empty-filled/in link-to-directory/in rebuilt/new > new/file
echo "rebuilt/same $part of the user" > rebuilt/same
ln -s /etc/passwd to-link; ln -sfn kept2 link; ln -s nowhere new/link; ln -s kept1 $'new\xff'
ln new/file new/other-name
chmod 700 mode; chmod 750 new; chmod 644 closed; chmod 755 open; chmod 640 new/deep/file; echo more >> closed
touch -d 2002-02-02 shared new/deep/file new/deep
cp --attributes-only --preserve=xattr with/file noted; cp --attributes-only --preserve=xattr with/file new/file; cp -r --preserve=xattr,mode with/. dressed
cd ..
done"#
    )
}
