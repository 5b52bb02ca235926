//! Tests of the readers: every format as its tool writes it, and what a hostile or broken file makes of them.

use super::*;
use proptest::prelude::*;

const NONE: Variables<'static> = &|_| None;

fn main_of(found: &Found) -> Option<Vec<String>> {
    let main = found.main.as_ref()?;
    Some(
        main.iter()
            .map(|rule| format!("{rule} {}", rule.origin))
            .collect(),
    )
}

fn others_of(found: &Found) -> Vec<String> {
    found.others.iter().map(ToString::to_string).collect()
}

#[test]
fn a_url_gives_its_host_and_port_and_nothing_else() {
    for (url, expected) in [
        ("https://npm.example.com/", "npm.example.com:443"),
        ("HTTP://Npm.Example.COM.", "npm.example.com:80"),
        ("https://npm.example.com:/x", "npm.example.com:443"),
        (
            "https://npm.example.com:8443/a/b?c#d",
            "npm.example.com:8443",
        ),
        (
            "https://user:p%40ss@npm.example.com/x@y",
            "npm.example.com:443",
        ),
        ("https://203.0.113.7:4873/", "203.0.113.7:4873"),
        ("https://[2001:db8::7]/", "[2001:db8::7]:443"),
        ("http://[2001:db8::7]:8080", "[2001:db8::7]:8080"),
        ("http://10.1.2.3:8081/", "10.1.2.3:8081"),
        (
            "sparse+https://index.example.com/x/",
            "index.example.com:443",
        ),
        (
            "registry+https://git.example.com/index",
            "git.example.com:443",
        ),
        ("git+ssh://git@git.example.com/a.git", "git.example.com:22"),
        ("https://npm.example.com/${PATH}", "npm.example.com:443"),
        ("git@git.example.com:a/b.git", "git.example.com:22"),
        ("git.example.com:a/b.git", "git.example.com:22"),
        ("git://git.example.com/a", "git.example.com:9418"),
        ("mirror+http://deb.example.com/list", "deb.example.com:80"),
    ] {
        let found = endpoint(url).unwrap();
        let rule = Rule::new(
            Effect::Allow,
            found.target,
            Ports::single(found.port),
            Some(Transport::Tcp),
            Origin::DEFAULT,
        );
        assert_eq!(
            rule,
            Rule::parse(expected, Origin::DEFAULT).unwrap(),
            "{url}"
        );
    }
}

#[test]
fn a_url_with_two_readings_or_none_gives_no_rule() {
    use NoEndpoint as No;
    let long = format!("https://{}", "a".repeat(5000));
    for (url, expected) in [
        ("", No::Local),
        ("file:///srv/npm", No::Local),
        ("FILE:/srv", No::Local),
        ("/srv/npm", No::Local),
        ("../npm", No::Local),
        ("unix:///run/npm.sock", No::Local),
        ("http+unix://%2Frun%2Fnpm.sock/", No::Local),
        ("cdrom:[Debian]/", No::Local),
        ("npm.example.com", No::Local),
        ("ftp://npm.example.com/", No::Scheme),
        ("javascript:alert(1)", No::Scheme),
        ("npm.example.com:8080/x", No::Ambiguous),
        ("https:/npm.example.com", No::Scheme),
        ("https://a@b@npm.example.com/", No::Ambiguous),
        ("https://npm.example.com\\@evil.example/", No::Ambiguous),
        ("https://npm.example.com\t.evil.example/", No::Ambiguous),
        ("https://npm.example.com\0/", No::Ambiguous),
        ("https://${HOST}/", No::Variable),
        ("${URL}/x", No::Variable),
        ("https:///x", No::Host),
        ("https://*.example.com/", No::Host),
        ("https://198.51.100.0%2f24/", No::Host),
        ("https://0x7f.1/", No::Host),
        ("https://2130706433/", No::Host),
        ("https://[203.0.113.7]/", No::Host),
        ("https://[2001:db8::7%25eth0]/", No::Host),
        ("https://[::ffff:127.0.0.1]/", No::Host),
        ("https://2001:db8::7/", No::Host),
        ("https://npm.example.com:0/", No::Port),
        ("https://npm.example.com:65536/", No::Port),
        ("https://npm.example.com:+80/", No::Port),
        ("https://npm.example.com:443,22/", No::Port),
        ("http://localhost:4873/", No::Special),
        ("http://x.localhost/", No::Special),
        ("http://127.0.0.1:4873/", No::Special),
        ("http://[::1]/", No::Special),
        ("http://0.0.0.0/", No::Special),
        ("http://169.254.169.254/", No::Special),
        ("http://198.18.0.1/", No::Special),
        (&long, No::TooLong),
    ] {
        assert_eq!(endpoint(url), Err(expected), "{url:?}");
    }
}

#[test]
fn npmrc_names_one_main_registry_and_those_of_scopes() {
    let text = "; comment\nregistry=https://old.example.com\nregistry = \"https://me:s3cret@npm.example.com/x/\" \n@corp:registry=http://corp.example.com:8081/\n//npm.example.com/:_authToken=s3cret\nproxy=http://proxy.example.com:3128\n@x:registry=https://${MIRROR}/y\n@y:registry=https://${UNSET}/y ; comment\n@z:registry=https://${UNSET-z.example.com}\n[section]\nregistry=https://section.example.com\n";
    let found = read_npmrc(text, "~/.npmrc", &|name| {
        (name == "MIRROR").then(|| "m.example.com:444".to_owned())
    });
    assert_eq!(
        main_of(&found).unwrap(),
        ["npm.example.com:443 preset npm (~/.npmrc:3)"]
    );
    assert_eq!(
        others_of(&found),
        [
            "corp.example.com:8081",
            "m.example.com:444",
            "z.example.com:443"
        ]
    );
    assert_eq!(
        found.notes,
        ["preset npm: ~/.npmrc:8: has a URL with a variable that is not set"]
    );
    assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");

    assert_eq!(
        read_npmrc("registry=file:///srv\n", "x", NONE).main,
        Some(Vec::new()),
        "named, and no host"
    );
    assert_eq!(read_npmrc("\n", "x", NONE), Found::default());
}

#[test]
fn cargo_names_what_replaces_the_default_and_registries() {
    let text = "[source.crates-io]\nregistry = \"https://unused.example.com\"\nreplace-with = 'mirror'\n[source.mirror]\nregistry = \"sparse+https://u:s3cret@cargo.example.com/index/\"\n[source.vendored]\ndirectory = \"vendor\"\n[registries]\ncorp = { index = \"ssh://git@git.example.com/index\", token = \"s3cret\" }\n[net]\nretry = 1\n";
    let found = read_cargo_config(text, "~/.cargo/config.toml");
    assert_eq!(found.main, Some(Vec::new()));
    assert_eq!(
        others_of(&found),
        ["git.example.com:22", "cargo.example.com:443"]
            .map(String::from)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        found.others[0].origin.to_string(),
        "preset cargo (~/.cargo/config.toml:5)"
    );
    assert!(!format!("{found:?}").contains("s3cret"));
    assert_eq!(read_cargo_config("", "x").main, None);
    assert_eq!(
        read_cargo_config("a = [\n", "x").notes,
        ["preset cargo: x:1: is not used, it is no valid TOML"]
    );

    let found = read_index_config(
        r#"{"dl": "https://static.example.com/{crate}/{version}", "api": "https://api.example.com"}"#,
        "i",
    );
    assert_eq!(others_of(&found), ["static.example.com:443"]);
    for odd in [
        "",
        "{}",
        r#"{"dl": 1}"#,
        r#"{"dl": "https://{crate}.example.com"}"#,
        r#"{"dl": "x"#,
    ] {
        let found = read_index_config(odd, "i");
        assert!(found.others.is_empty() && !found.notes.is_empty(), "{odd}");
    }
}

#[test]
fn pip_and_uv_name_indexes() {
    let text = "[global]\nindex_url : https://me:s3cret@pypi.example.com/simple\nextra-index-url =\n    https://one.example.com/simple\n    http://two.example.com:8080/simple\n# no\n[install]\nfind-links = /srv/wheels https://wheels.example.com/\ntrusted-host = other.example.com\n";
    let found = read_pip_conf(text, "~/.config/pip/pip.conf");
    assert_eq!(
        main_of(&found).unwrap(),
        ["pypi.example.com:443 preset pip (~/.config/pip/pip.conf:2)"]
    );
    assert_eq!(
        others_of(&found),
        [
            "one.example.com:443",
            "two.example.com:8080",
            "wheels.example.com:443"
        ]
    );
    assert!(!format!("{found:?}").contains("s3cret"));

    let text = "index-url = \"https://uv.example.com/simple\"\n[[index]]\nname = \"a\"\nurl = \"https://a.example.com\"\n[[index]]\nurl = \"https://main.example.com\"\ndefault = true\n[pip]\nextra-index-url = [\"https://b.example.com\"]\n";
    let found = read_uv_toml(text, "uv.toml");
    assert_eq!(
        main_of(&found).unwrap(),
        ["main.example.com:443 preset pip (uv.toml:5)"]
    );
    assert_eq!(
        others_of(&found),
        ["a.example.com:443", "b.example.com:443"]
    );

    let text = "requests==2\n--index-url https://i.example.com\n--extra-index-url=https://e.example.com/x\nx @ git+https://git.example.com/x\n# https://no.example.com\n";
    assert_eq!(
        others_of(&read_requirements(text, "r")),
        [
            "i.example.com:443",
            "e.example.com:443",
            "git.example.com:443"
        ]
    );

    let found = read_variable(
        PackageManager::Pip,
        "PIP_EXTRA_INDEX_URL",
        "https://a.example.com name=https://u:s3cret@b.example.com",
        false,
    );
    assert_eq!(
        others_of(&found),
        ["a.example.com:443", "b.example.com:443"]
    );
    assert_eq!(
        found.others[0].origin.to_string(),
        "preset pip ($PIP_EXTRA_INDEX_URL)"
    );
}

#[test]
fn go_names_proxies_and_the_checksum_database() {
    let proxies = read_go_setting(
        "$GOPROXY",
        "GOPROXY",
        "https://go.example.com|http://two.example.com:81,direct,off",
    );
    assert_eq!(
        main_of(&proxies).unwrap(),
        [
            "go.example.com:443 preset go ($GOPROXY)",
            "two.example.com:81 preset go ($GOPROXY)"
        ]
    );
    assert_eq!(
        read_go_setting("x", "GOPROXY", "off").main,
        Some(Vec::new())
    );
    for (value, host) in [
        ("sum.example.com", "sum.example.com:443"),
        ("sum.example.com+03+key", "sum.example.com:443"),
        (
            "sum.example.com+k https://other.example.com",
            "other.example.com:443",
        ),
    ] {
        assert_eq!(
            main_of(&read_go_setting("x", "GOSUMDB", value)).unwrap(),
            [format!("{host} preset go (x)")]
        );
    }
    let file = read_go_env(
        "GOFLAGS=-x\nGOPROXY=https://go.example.com\nGOSUMDB=off\n",
        "env",
    );
    let names: Vec<&str> = file.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["GOPROXY", "GOSUMDB"]);
    assert_eq!(
        main_of(&file[0].1).unwrap(),
        ["go.example.com:443 preset go (env:2)"]
    );
}

#[test]
fn apt_names_archives_in_both_forms() {
    let text = "# deb http://no.example.com x\ndeb http://deb.example.com/debian bookworm main\ndeb-src [ arch=amd64 signed-by=/x ] https://u:s3cret@src.example.com:8443/ ./\ndeb cdrom:[x]/ bookworm\ndeb mirror+https://list.example.com/m.txt x\ndebug http://no.example.com\n";
    let found = read_sources_list(text, "s");
    assert_eq!(
        others_of(&found),
        [
            "deb.example.com:80",
            "src.example.com:8443",
            "list.example.com:443"
        ]
    );
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    assert!(!format!("{found:?}").contains("s3cret"));

    let text = "Types: deb\n# URIs: http://no.example.com\nURIs: http://a.example.com/x\n  https://b.example.com\nSuites: x\n\nEnabled: no\nURIs: http://off.example.com\n\nURIs: file:/srv\nuris: http://c.example.com";
    assert_eq!(
        others_of(&read_deb822(text, "s")),
        ["a.example.com:80", "b.example.com:443", "c.example.com:80"]
    );
}

#[test]
fn git_names_hosts_it_is_sent_to_and_remotes() {
    let text = "[url \"https://u:s3cret@git.example.com/\"]\n\tinsteadOf = gh:\n[credential \"https://corp.example.com:8443\"]\n\thelper = store\n[http \"https://h.example.com\"] sslVerify = false\n[user]\n\tname = https://no.example.com\n[include]\n\tpath = ~/more\n[remote \"origin\"]\n\turl = git@ssh.example.com:a/b\n\tpushurl = \"ssh://git@push.example.com:2222/a\"\n[broken \"\n";
    let found = read_git_config(text, "~/.gitconfig");
    assert_eq!(
        others_of(&found),
        [
            "git.example.com:443",
            "corp.example.com:8443",
            "h.example.com:443",
            "ssh.example.com:22",
            "push.example.com:2222"
        ]
    );
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(!format!("{found:?}").contains("s3cret"));
}

#[test]
fn maven_names_mirrors_and_repositories() {
    let text = "<?xml version=\"1.0\"?>\n<settings><!-- <url>http://no.example.com</url> -->\n<mirrors>\n<mirror><id>a</id><mirrorOf>*</mirrorOf>\n<url>https://u:s3cret@mvn.example.com/a?x=1&amp;y</url></mirror>\n<mirror><mirrorOf>other</mirrorOf><url><![CDATA[http://b.example.com:8081/]]></url></mirror>\n<mirror><mirrorOf>external:http:*</mirrorOf><url>http://0.0.0.0/</url><blocked>true</blocked></mirror>\n</mirrors><profiles><profile><repositories><repository><url>${env.REPO}</url><releases><url>http://no.example.com</url></releases></repository></repositories></profile></profiles><url>http://no.example.com</url></settings>";
    let found = read_maven(text, "~/.m2/settings.xml", &|name| {
        (name == "REPO").then(|| "https://env.example.com".to_owned())
    });
    assert_eq!(
        main_of(&found).unwrap(),
        ["mvn.example.com:443 preset maven (~/.m2/settings.xml:5)"]
    );
    assert_eq!(
        others_of(&found),
        ["b.example.com:8081", "env.example.com:443"]
    );
    assert_eq!(found.notes, Vec::<String>::new());
    assert!(!format!("{found:?}").contains("s3cret"));

    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><settings>&b;</settings>";
    assert_eq!(
        read_maven(bomb, "x", NONE).notes,
        ["preset maven: x: is not used, it has a document type"]
    );
    let deep = "<a>".repeat(100_000);
    assert_eq!(read_maven(&deep, "x", NONE).notes.len(), 1);
}

#[test]
fn lock_files_name_places_of_download_only() {
    let hosts = |kind, text| {
        lock_file_urls(kind, text)
            .into_keys()
            .map(|endpoint| format!("{}:{}", endpoint.target, endpoint.port))
            .collect::<Vec<_>>()
    };
    let npm = r#"{"packages":{"a":{"version":"1","resolved":"https://npm.example.com/a.tgz","funding":{"url":"https://no.example.com"}},"b":{"resolved": "git+ssh://git@git.example.com/b.git#abc"},"c":{"resolved":"file:../c"}}}"#;
    assert_eq!(
        hosts(LockFile::Npm, npm),
        ["git.example.com:22", "npm.example.com:443"]
    );
    assert_eq!(
        hosts(
            LockFile::Yarn,
            "a@1:\n  resolved \"https://yarn.example.com/a.tgz#1\"\n"
        ),
        ["yarn.example.com:443"]
    );
    assert_eq!(
        hosts(
            LockFile::Pnpm,
            "  resolution: {integrity: x, tarball: https://p.example.com/a.tgz}\n"
        ),
        ["p.example.com:443"]
    );
    let cargo = "source = \"registry+https://no.example.com/index\"\nsource = \"sparse+https://s.example.com/\"\nsource = \"git+https://g.example.com/x?rev=1#abc\"\n";
    assert_eq!(
        hosts(LockFile::Cargo, cargo),
        ["g.example.com:443", "s.example.com:443"]
    );
    assert_eq!(
        hosts(
            LockFile::Uv,
            "source = { registry = \"https://u.example.com/simple\" }\nsdist = { url = \"https://f.example.com/a\", hash = \"x\" }\n"
        ),
        ["f.example.com:443", "u.example.com:443"]
    );
    let many: String = (0..1000)
        .map(|n| format!("\"resolved\": \"https://h{n}.example.com/\"\n"))
        .collect();
    assert_eq!(hosts(LockFile::Npm, &many).len(), 50);
}

#[test]
fn one_file_yields_a_bounded_number_of_rules_and_notes() {
    let many: String = (0..100_000)
        .map(|n| format!("@s{n}:registry=https://h{n}.example.com/\n@t{n}:registry=ftp://x\n"))
        .collect();
    let found = read_npmrc(&many, "x", NONE);
    assert_eq!(found.others.len(), 200);
    assert!(found.notes.len() <= 201);
}

proptest! {
    /// No text makes a reader panic, and no rule or note holds what stood in front of an `@` or behind the host.
    #[test]
    fn any_text_is_read_without_a_panic(text in "[\\PC\n\t\0\\[\\]<>\"'=:/@{}$ -]{0,400}") {
        for found in every_reader(&text) {
            for rule in found.others.iter().chain(found.main.iter().flatten()) {
                prop_assert!(Rule::parse(&rule.to_string(), Origin::DEFAULT).is_ok());
            }
        }
        for kind in [LockFile::Npm, LockFile::Yarn, LockFile::Pnpm, LockFile::Cargo, LockFile::Uv] {
            let _ = lock_file_urls(kind, &text);
        }
    }

    #[test]
    fn credentials_never_come_out(secret in "[a-z0-9]{12}", host in "[a-z]{3,8}\\.example\\.com") {
        let url = format!("https://user{secret}:{secret}@{host}/{secret}?{secret}#{secret}");
        for text in [
            format!("registry={url}\n@a:registry={url}x{{\n"),
            format!("[source.a]\nregistry = \"{url}\"\n"),
            format!("[global]\nindex-url = {url}\n"),
            format!("index-url = \"{url}\"\n"),
            format!("GOPROXY={url}\n"),
            format!("deb {url} x y\n"),
            format!("URIs: {url}\n"),
            format!("[url \"{url}\"]\n"),
            format!("<mirror><url>{url}</url></mirror>"),
        ] {
            for found in every_reader(&text) {
                let shown = format!("{found:?}");
                prop_assert!(!shown.contains(&secret), "{}", shown);
            }
        }
    }
}

fn every_reader(text: &str) -> Vec<Found> {
    let mut all = vec![
        read_npmrc(text, "p", NONE),
        read_cargo_config(text, "p"),
        read_index_config(text, "p"),
        read_pip_conf(text, "p"),
        read_requirements(text, "p"),
        read_uv_toml(text, "p"),
        read_go_setting("p", "GOPROXY", text),
        read_go_setting("p", "GOSUMDB", text),
        read_sources_list(text, "p"),
        read_deb822(text, "p"),
        read_git_config(text, "p"),
        read_maven(text, "p", NONE),
        read_variable(PackageManager::Npm, "V", text, true),
    ];
    all.extend(read_go_env(text, "p").into_iter().map(|(_, found)| found));
    all
}
