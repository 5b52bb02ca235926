//! Servers of the corpus that the world itself does not have: HTTP/2, WebSocket, a proxy, git's own protocol, iperf3, DTLS.
//!
//! Must listen on addresses of the inet side only, and must not decide anything. What is missing on this machine is a skip.

use std::time::Duration;

use rcc_testkit::system_tool;
use rcc_testkit::world::{Running, World};

/// Node's servers: HTTP/2 over TLS and plain, WebSocket echo, redirects, CONNECT.
const NODE: &str = include_str!("servers.js");

/// Running servers; they end when dropped.
pub(crate) struct Servers {
    _running: Vec<Running>,
}

impl Servers {
    /// Starts those whose programs are there.
    pub(crate) fn start(world: &World) -> Self {
        let mut running = Vec::new();
        let directory = world.scratch_directory("servers");
        let start = |program: &str, arguments: &[&str]| {
            world
                .inet_command(program)
                .args(arguments)
                .current_dir(&directory)
                .stdin_open()
                .timeout(Duration::from_secs(300))
                .spawn()
        };
        if system_tool("openssl").is_some() {
            let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=allowed.example";
            let words: Vec<&str> = key.split(' ').collect();
            world
                .inet_command("openssl")
                .args(words)
                .current_dir(&directory)
                .output()
                .assert_success();
            let dtls = "s_server -dtls1_2 -accept 203.0.113.10:4433 -cert cert.pem -key key.pem";
            let words: Vec<&str> = dtls.split(' ').collect();
            let server = start("openssl", &words);
            server.wait_for_text("ACCEPT");
            running.push(server);
            if system_tool("node").is_some() {
                let script = world.scratch_file("servers/servers.js", NODE);
                let server = start("node", &[&script.to_string_lossy()]);
                server.wait_for_text("all listen");
                running.push(server);
            }
        }
        if system_tool("git").is_some() {
            world.make_git_repository("corpus", &[("README", "hello from the corpus\n")]);
            let root = world.git_root();
            let base = format!("--base-path={}", root.display());
            running.push(start(
                "git",
                &[
                    "-c",
                    "safe.directory=*",
                    "daemon",
                    "--export-all",
                    "--reuseaddr",
                    "--verbose",
                    "--listen=203.0.113.41",
                    &base,
                ],
            ));
            running.last().unwrap().wait_for_text("Ready to rumble");
        }
        if system_tool("iperf3").is_some() {
            let server = start(
                "iperf3",
                &["--server", "--bind", "203.0.113.10", "--forceflush"],
            );
            server.wait_for_text("Server listening");
            running.push(server);
        }
        Self { _running: running }
    }
}
