//! Reading what patterns of `files.hidden` cover.

use crate::scene::{SECRET, Scene};

/// Files that the patterns below cover, as the project has them at the start.
const COVERED: [&str; 8] = [
    ".env",
    "app/.env",
    "app/deep/er/.ENV",
    "app/.env.local",
    "keys/server.pem",
    "keys/UPPER.PEM",
    "secrets/inner/token",
    "real/linked.key",
];

const POLICY: &str = "version = 1\n[network]\nmode = \"none\"\n[files]\nhidden = [\".env\", \"**/.env.*\", \"*.pem\", \"secrets/\", \"certs/*.key\", \"alias\"]\n";

fn scene(name: &str) -> Option<Scene> {
    let scene = Scene::new(name)?;
    for file in COVERED {
        scene.file(&format!("home/work/project/{file}"), SECRET);
    }
    scene.file("home/work/project/target-of-alias", SECRET);
    scene.file("home/work/project/.envrc", "not covered\n");
    // A link that matches covers what it leads to; a pattern may go through a link to a directory.
    std::os::unix::fs::symlink("target-of-alias", scene.project().join("alias")).unwrap();
    std::os::unix::fs::symlink("real", scene.project().join("certs")).unwrap();
    scene.file("home/.config/rcc/config.toml", POLICY);
    Some(scene)
}

#[test]
fn by_every_name_that_a_pattern_matches() {
    let Some(scene) = scene("hidden_patterns") else {
        return;
    };
    let script = "grep -rIl 'secret of the host' . ; cat .env alias certs/linked.key app/.env 2>/dev/null; \
                  for f in .env keys/server.pem secrets; do mv $f moved && echo moved $f; rm -rf $f && echo removed $f; ln $f l && echo linked $f; done; \
                  mv keys k && echo moved keys; mv app/deep d && echo moved deep; true";
    let output = scene.sh(&[], script);
    let text = output.assert_success().stdout_text();
    assert!(!text.contains(SECRET) && !text.contains("./"), "{output}");
    assert_eq!(text, "", "{output}");
    // Nothing on the host changed, and no ghost was left.
    for file in COVERED {
        assert_eq!(scene.text(&format!("home/work/project/{file}")), SECRET);
    }
    // The control: without the policy the same words read and move all of it.
    std::fs::remove_file(scene.base.join("home/.config/rcc/config.toml")).unwrap();
    let output = scene.sh(&["-n"], script);
    let text = output.stdout_text();
    for word in [SECRET, "secrets/inner/token", "UPPER.PEM", "moved keys"] {
        assert!(text.contains(word), "{word}\n{output}");
    }
}

#[test]
fn what_appears_inside_is_the_agents_own() {
    let Some(scene) = scene("hidden_new") else {
        return;
    };
    let output = scene.sh(
        &[],
        "echo mine > app/deep/.env && cat app/deep/.env && cat .envrc",
    );
    assert_eq!(output.assert_success().stdout_text(), "mine\nnot covered\n");
    // The next run covers it.
    let output = scene.sh(&[], "cat app/deep/.env");
    assert_ne!(output.code(), Some(0), "{output}");
    assert!(!output.stdout_text().contains("mine"));
}

#[test]
fn under_a_second_name_of_the_same_file() {
    let Some(scene) = scene("hidden_second_name") else {
        return;
    };
    let project = scene.project();
    std::fs::hard_link(project.join(".env"), project.join("copy")).unwrap();
    let output = scene.sh(&[], "cat copy");
    assert!(
        output
            .stderr_text()
            .contains(".env is hidden, but the same file has another name"),
        "{output}"
    );
    std::fs::remove_file(project.join("copy")).unwrap();
    let output = scene.sh(&[], "true");
    assert!(
        !output.stderr_text().contains("another name"),
        "the control\n{output}"
    );
}

/// What would hide the project, or could not be applied to all of it, is refused.
#[test]
fn patterns_that_cannot_hold_are_refused() {
    let Some(scene) = scene("hidden_refused") else {
        return;
    };
    for (pattern, reason) in [
        ("*", "matches everything in the project"),
        ("**", "matches everything in the project"),
        ("**/*", "matches everything in the project"),
        (".", "the project would be hidden"),
        ("~/work", "the project would be hidden"),
        ("~/x/*.pem", "patterns are for paths in the project"),
        ("/etc/*.conf", "patterns are for paths in the project"),
    ] {
        scene.file(
            "home/.config/rcc/config.toml",
            format!("version = 1\n[files]\nhidden = [\"{pattern}\"]\n"),
        );
        let output = scene
            .run(&["-n"])
            .args(["sh", "-c", "echo started"])
            .output();
        output.assert_code(125);
        assert!(output.stderr_text().contains(reason), "{pattern}: {output}");
        assert!(!output.stdout_text().contains("started"));
    }
    for number in 0..1100 {
        std::fs::write(scene.project().join(format!("{number}.many")), "").unwrap();
    }
    scene.world.give_to_user(&scene.base);
    scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[files]\nhidden = [\"*.many\"]\n",
    );
    let output = scene.run(&["-n"]).arg("true").output();
    output.assert_code(125);
    assert!(
        output.stderr_text().contains("they match 1100 files"),
        "{output}"
    );
}
