//! The host's own resolver configuration: `resolv.conf(5)` and `hosts(5)`.
//!
//! Both files are read again for every look-up that the cache cannot answer, as the C library does for `hosts`: they are
//! small, look-ups upstream are rare, and so nothing is stale after a VPN came up. Must not keep the contents of `hosts` in
//! memory: block lists of 100,000 lines are common there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcc_spec::HostName;

/// Port of DNS.
const DNS_PORT: u16 = 53;
/// Name servers that are used (`MAXNS` in `resolv.conf(5)`).
const SERVER_LIMIT: usize = 3;
/// Search domains that are tried.
const SEARCH_LIMIT: usize = 6;
/// Bytes of a configuration file that are read.
const FILE_LIMIT: u64 = 16 << 20;
/// Default of `options timeout` (`RES_TIMEOUT`).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Largest `options timeout` (`RES_MAXRETRANS`), in seconds.
const TIMEOUT_LIMIT: u64 = 30;
/// Default and largest `options attempts` (`RES_DFLRETRY`, `RES_MAXRETRY`).
const ATTEMPTS_DEFAULT: usize = 2;
const ATTEMPTS_LIMIT: usize = 5;

/// Where names are looked up on the host.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub(crate) servers: Servers,
    pub(crate) hosts: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub(crate) enum Servers {
    File(PathBuf),
    Fixed(Vec<SocketAddr>),
}

impl Upstream {
    /// What the host itself uses: `/etc/hosts`, then the servers of `/etc/resolv.conf`.
    #[must_use]
    pub fn system() -> Self {
        Self::files("/etc/resolv.conf", "/etc/hosts")
    }

    /// As [`Upstream::system`], with other files of the same formats.
    #[must_use]
    pub fn files(resolv_conf: impl Into<PathBuf>, hosts: impl Into<PathBuf>) -> Self {
        Self {
            servers: Servers::File(resolv_conf.into()),
            hosts: Some(hosts.into()),
        }
    }

    /// These servers alone, tried in this order.
    #[must_use]
    pub fn servers(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers: Servers::Fixed(servers),
            hosts: None,
        }
    }

    /// The files as they are now; none where one cannot be looked at, as for a moment while it is replaced.
    pub(crate) fn files_seen(&self) -> Vec<Option<FileState>> {
        let servers = match &self.servers {
            Servers::File(path) => Some(path),
            Servers::Fixed(_) => None,
        };
        let files = servers.into_iter().chain(&self.hosts);
        files.map(|path| FileState::of(path)).collect()
    }

    /// Reads the configuration as it is now.
    pub(crate) fn read(&self) -> io::Result<ResolverConf> {
        match &self.servers {
            Servers::Fixed(servers) => Ok(ResolverConf {
                servers: servers.clone(),
                ..ResolverConf::empty()
            }),
            Servers::File(path) => {
                let mut text = Vec::new();
                File::open(path)?.take(FILE_LIMIT).read_to_end(&mut text)?;
                Ok(ResolverConf::parse(&String::from_utf8_lossy(&text)))
            }
        }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            size: i64::try_from(data.size()).unwrap_or(i64::MAX),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// What `resolv.conf(5)` says, as far as the gateway heeds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverConf {
    pub(crate) servers: Vec<SocketAddr>,
    /// Domains appended to names of one label.
    pub(crate) search: Vec<HostName>,
    /// Time for one server before the next is asked too.
    pub(crate) timeout: Duration,
    /// Rounds over all servers.
    pub(crate) attempts: usize,
}

impl ResolverConf {
    fn empty() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            attempts: ATTEMPTS_DEFAULT,
        }
    }

    fn parse(text: &str) -> Self {
        let mut conf = Self::empty();
        for line in text.lines() {
            // Comments only count in the first column (resolv.conf(5)), and neither sign starts a keyword.
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < SERVER_LIMIT => {
                    conf.servers.extend(words.next().and_then(server_address));
                }
                Some("domain" | "search") => {
                    // The last line wins.
                    conf.search = words
                        .filter_map(|word| HostName::parse(word).ok())
                        .take(SEARCH_LIMIT)
                        .collect();
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else {
            return;
        };
        match (name, value.parse::<u64>()) {
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(seconds.clamp(1, TIMEOUT_LIMIT))
            }
            ("attempts", Ok(attempts)) => {
                self.attempts = usize::try_from(attempts)
                    .unwrap_or(ATTEMPTS_LIMIT)
                    .clamp(1, ATTEMPTS_LIMIT);
            }
            _ => {}
        }
    }
}

/// Reads the address of a name server; `fe80::1%eth0` needs the number of its interface.
fn server_address(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some((address, DNS_PORT).into());
    }
    let (address, zone) = word.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = match zone.parse::<u32>() {
        Ok(scope) => scope,
        Err(_) if zone.contains('/') || zone.starts_with('.') => return None,
        Err(_) => {
            let path = Path::new("/sys/class/net").join(zone).join("ifindex");
            std::fs::read_to_string(path).ok()?.trim().parse().ok()?
        }
    };
    Some(SocketAddrV6::new(address, DNS_PORT, 0, scope).into())
}

/// Looks a name up in a `hosts(5)` file. A file that cannot be read has no entries.
pub(crate) fn hosts_entries(path: &Path, name: &HostName) -> Vec<IpAddr> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let mut reader = BufReader::new(file.take(FILE_LIMIT));
    let mut addresses = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return addresses,
            Ok(_) => {}
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            continue;
        };
        let mut words = text
            .split('#')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        let named = words.any(|word| {
            word.strip_suffix('.')
                .unwrap_or(word)
                .eq_ignore_ascii_case(name.as_str())
        });
        if named
            && let Ok(address) = address.parse::<IpAddr>()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        let conf = ResolverConf::parse(
            "# comment\n; other\ndomain old.example\nsearch corp.example.com example.org\n\
             nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%7\nnameserver 192.0.2.9\n\
             nameserver nonsense\noptions ndots:2 timeout:3 attempts:9 rotate\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]
        );
        let search: Vec<&str> = conf.search.iter().map(HostName::as_str).collect();
        assert_eq!(search, ["corp.example.com", "example.org"]);
        assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(3), 5));
    }

    #[test]
    fn no_server_means_this_machine() {
        let conf = ResolverConf::parse("options timeout:0\n");
        assert_eq!(conf.servers, [SocketAddr::from((Ipv4Addr::LOCALHOST, 53))]);
        assert_eq!(conf.timeout, Duration::from_secs(1));
        assert_eq!(server_address("fe80::1%../../x"), None);
    }

    #[test]
    fn hosts_are_found_by_any_of_their_names() {
        let directory = std::env::temp_dir().join(format!("rcc-hosts-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("hosts");
        let text = b"192.0.2.1 one.example.com One # two\n\xff\xfe\n2001:db8::1\tONE.example.com.\n#192.0.2.3 one\n";
        std::fs::write(&path, text).unwrap();
        let find = |name: &str| hosts_entries(&path, &HostName::parse(name).unwrap());
        let expected: Vec<IpAddr> =
            vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(find("one.example.com"), expected);
        assert_eq!(find("one"), expected[..1]);
        assert!(find("two").is_empty());
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(find("one").is_empty());
    }
}
