//! Programs that the inet side runs (dnsmasq, sshd), and which answers its web server gives.
//!
//! Must start programs of the machine as an ordinary user, with configuration files of the world's own.

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcc_testkit::system_tool;
use rcc_testkit::world::addresses::{
    GIT_V4, RESOLVER_V4, RESOLVER_V6, SSH_PORT, STRANGE_RESOLVER_V4,
};
use rcc_testkit::world::{Setup, zone};

use crate::Failure;
use crate::counters::Counters;
use crate::git::GitSite;
use crate::http::{Request, Response, who_am_i};
use crate::messages;
use crate::registry::Registry;

/// How long a program may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What a web server answers.
pub(crate) trait Site: Debug + Send + Sync {
    /// Answers one request.
    fn answer(&self, request: &Request) -> Response;
}

/// Reads what the test has written for its world.
pub(crate) fn read_setup(directory: &Path) -> Result<Setup, Failure> {
    Ok(serde_json::from_slice(&std::fs::read(
        directory.join("setup.json"),
    )?)?)
}

#[derive(Debug)]
struct PlainSite;

impl Site for PlainSite {
    fn answer(&self, request: &Request) -> Response {
        who_am_i(request)
    }
}

/// The site of the host's own listeners.
pub(crate) fn plain_site() -> Arc<dyn Site> {
    Arc::new(PlainSite)
}

/// The sites of the inet side, told apart by the Host header.
#[derive(Debug)]
struct InetSite {
    counters: Arc<Counters>,
    git: GitSite,
    registry: Registry,
}

impl Site for InetSite {
    fn answer(&self, request: &Request) -> Response {
        match request.host() {
            "api.agent.example" => messages::answer(request, &self.counters),
            "git.example" => self.git.answer(request),
            "registry.example" => self.registry.answer(request),
            _ => who_am_i(request),
        }
    }
}

/// The sites of the inet side.
pub(crate) fn inet_site(
    directory: &Path,
    setup: &Setup,
    counters: &Arc<Counters>,
) -> Arc<dyn Site> {
    let git = GitSite::new(directory, setup);
    Arc::new(InetSite {
        counters: Arc::clone(counters),
        git,
        registry: Registry::make(),
    })
}

/// Begins a command that becomes the service user and then runs `program`.
pub(crate) fn as_service_user(setup: &Setup, program: &Path) -> Command {
    let (uid, gid) = (setup.service_user.uid, setup.service_user.gid);
    let mut command;
    if setup.is_root {
        command = Command::new("setpriv");
        command
            .args([format!("--reuid={uid}"), format!("--regid={gid}")])
            .args(["--clear-groups", "--inh-caps=-all", "--"]);
    } else {
        command = Command::new("unshare");
        command.args([
            "--user".to_owned(),
            format!("--map-user={uid}"),
            format!("--map-group={gid}"),
            "--".to_owned(),
        ]);
    }
    command
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Starts dnsmasq and waits until it listens.
pub(crate) fn start_dnsmasq(directory: &Path, setup: &Setup) -> Result<Child, Failure> {
    let program = system_tool("dnsmasq").ok_or("dnsmasq is not installed")?;
    let child = as_service_user(setup, &program)
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--pid-file",
        ])
        .args([
            "--log-queries=extra",
            "--cache-size=0",
            "--edns-packet-max=1232",
        ])
        .arg(format!(
            "--log-facility={}",
            directory.join("service/dnsmasq.log").display()
        ))
        .args([
            format!("--listen-address={RESOLVER_V4}"),
            format!("--listen-address={RESOLVER_V6}"),
        ])
        .args(
            zone::dnsmasq_options(STRANGE_RESOLVER_V4)
                .into_iter()
                .map(|option| format!("--{option}")),
        )
        .spawn()?;
    wait_until_it_listens(child, RESOLVER_V4.into(), 53, "dnsmasq")
}

/// Starts sshd, if it is installed, and waits until it listens.
pub(crate) fn start_sshd(directory: &Path, setup: &Setup) -> Result<Option<Child>, Failure> {
    let (Some(program), Some(keygen)) = (system_tool("sshd"), system_tool("ssh-keygen")) else {
        return Ok(None);
    };
    let service = directory.join("service");
    let new_key = |path: &Path| -> Result<(), Failure> {
        let mut command = Command::new(&keygen);
        command
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "rcc-test", "-f"])
            .arg(path)
            .stdout(Stdio::null());
        if command.status()?.success() {
            Ok(())
        } else {
            Err("ssh-keygen failed".into())
        }
    };
    let (host_key, user_key) = (service.join("host_key"), directory.join("user/ssh_key"));
    new_key(&host_key)?;
    new_key(&user_key)?;
    let public = |path: &Path| std::fs::read_to_string(path.with_extension("pub"));
    std::fs::write(service.join("authorized_keys"), public(&user_key)?)?;
    std::fs::write(
        directory.join("public/known_hosts"),
        format!("git.example,{GIT_V4},2001:db8::41 {}", public(&host_key)?),
    )?;
    if setup.is_root {
        use std::os::unix::fs::chown;
        chown(
            &host_key,
            Some(setup.service_user.uid),
            Some(setup.service_user.gid),
        )?;
        chown(&user_key, Some(setup.user.uid), Some(setup.user.gid))?;
    }
    let config = service.join("sshd_config");
    let command = service.join("ssh_command");
    std::fs::write(&command, ssh_command(&directory.join("git")))?;
    let text = format!(
        "Port {SSH_PORT}\nHostKey {}\nAuthorizedKeysFile {}\nUsePAM no\nStrictModes no\nPidFile none\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\nAllowTcpForwarding no\nX11Forwarding no\n\
         PrintMotd no\nPrintLastLog no\nForceCommand /bin/sh {}\n",
        host_key.display(),
        service.join("authorized_keys").display(),
        command.display(),
    );
    std::fs::write(&config, text)?;
    let child = as_service_user(setup, &program)
        .args(["-D", "-e", "-f"])
        .arg(&config)
        .stderr(std::fs::File::create(service.join("sshd.log"))?)
        .spawn()?;
    wait_until_it_listens(child, GIT_V4.into(), SSH_PORT, "sshd").map(Some)
}

/// What runs for every ssh session: git commands with paths below the root, and other commands as they are.
fn ssh_command(root: &Path) -> String {
    format!(
        "case $SSH_ORIGINAL_COMMAND in\n\
         \"git-upload-pack '/\"*|\"git-receive-pack '/\"*)\n\
         path=${{SSH_ORIGINAL_COMMAND#*\\'/}}\n\
         exec \"${{SSH_ORIGINAL_COMMAND%% *}}\" '{}'/\"${{path%\\'}}\";;\n\
         *) exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\";;\n\
         esac\n",
        root.display()
    )
}

/// Connects until it works; ends early when the program does.
fn wait_until_it_listens(
    mut child: Child,
    address: IpAddr,
    port: u16,
    name: &str,
) -> Result<Child, Failure> {
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect(SocketAddr::new(address, port)).is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("{name} ended at once: {status}").into());
        }
        if Instant::now() > deadline {
            return Err(format!("{name} does not listen after {START_LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(child)
}
