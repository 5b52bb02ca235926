//! go: the file of `go env -w`, and the values of `GOPROXY` and `GOSUMDB` ("Go Modules Reference").

use super::{Finder, Found, PackageManager};

/// Reads the file `go/env` of the user's configuration: lines `NAME=VALUE`.
#[must_use]
pub fn read_go_env(text: &str, place: &str) -> Vec<(String, Found)> {
    let mut out = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some((name @ ("GOPROXY" | "GOSUMDB"), value)) = line.trim().split_once('=') {
            out.push((name.to_owned(), setting(place, index + 1, name, value)));
        }
    }
    out
}

/// Reads the value of `GOPROXY` or `GOSUMDB`, from the environment or from `go env`.
#[must_use]
pub fn read_go_setting(place: &str, name: &str, value: &str) -> Found {
    setting(place, 0, name, value)
}

fn setting(place: &str, line: usize, name: &str, value: &str) -> Found {
    let mut finder = Finder::new(PackageManager::Go, place);
    finder.found.main.get_or_insert_default();
    if name == "GOPROXY" {
        for part in value.split([',', '|']).map(str::trim) {
            match part {
                "" | "off" => {}
                // The servers of the modules themselves, which nobody knows before.
                "direct" => {}
                url => finder.also_main(line, url),
            }
        }
        return finder.finish();
    }
    // `NAME`, `NAME+KEY` or `NAME+KEY URL`; without a URL the name is the host.
    let mut words = value.split_whitespace();
    match (words.next(), words.next()) {
        (None | Some("off"), _) => {}
        (Some(_), Some(url)) => finder.also_main(line, url),
        (Some(name), None) => {
            let name = name.split('+').next().unwrap_or_default();
            finder.also_main(line, &format!("https://{name}"));
        }
    }
    finder.finish()
}
