//! Git over HTTP: a small CGI bridge to `git http-backend` (git-http-backend(1), RFC 3875).
//!
//! Must run git as the service user, who owns the repositories, and never with the machine's configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rcc_testkit::system_tool;
use rcc_testkit::world::Setup;

use crate::Failure;
use crate::http::{Request, Response};
use crate::services::as_service_user;

/// Serves the repositories below one directory.
#[derive(Debug)]
pub(crate) struct GitSite {
    root: PathBuf,
    setup: Setup,
}

impl GitSite {
    pub(crate) fn new(directory: &Path, setup: &Setup) -> Self {
        Self {
            root: directory.join("git"),
            setup: setup.clone(),
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Response {
        self.run(request)
            .unwrap_or_else(|error| Response::new(500, "text/plain", format!("{error}\n")))
    }

    fn run(&self, request: &Request) -> Result<Response, Failure> {
        let git = system_tool("git").ok_or("git is not installed")?;
        let header = |name| request.head.header(name).unwrap_or_default().to_owned();
        let mut child = as_service_user(&self.setup, &git)
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", "/nonexistent")
            .env("PATH_INFO", request.path())
            .env("QUERY_STRING", request.query())
            .env("REQUEST_METHOD", &request.head.method)
            .env("CONTENT_TYPE", header("content-type"))
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
            .env("GIT_PROTOCOL", header("git-protocol"))
            // Pushing needs a user's name; everybody is welcome here.
            .env("REMOTE_USER", "tester")
            .env("REMOTE_ADDR", "203.0.113.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or("no pipe to git")?;
        let body = request.body.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&body));
        let output = child.wait_with_output()?;
        // A backend that does not read its input closes the pipe; its answer says why.
        let _ = writer.join();
        parse(&output.stdout)
    }
}

/// Splits a CGI answer into headers and body.
fn parse(bytes: &[u8]) -> Result<Response, Failure> {
    let end = bytes
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .ok_or("git gave no answer")?;
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut response = Response {
        status: 200,
        headers: Vec::new(),
        body: bytes[end + 4..].to_vec(),
        chunks: Vec::new(),
    };
    for line in head.lines() {
        let (name, value) = line.split_once(": ").ok_or("an odd header line of git")?;
        if name.eq_ignore_ascii_case("status") {
            response.status = value.split(' ').next().unwrap_or_default().parse()?;
        } else {
            response.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(response)
}
