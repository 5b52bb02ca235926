//! Granted and hidden paths under every way to write them: slashes, dots, links, letters in both cases, Unicode forms.

use crate::scene::{SECRET, Scene, exists};

#[test]
fn grants_in_every_spelling() {
    let Some(scene) = Scene::new("spelled_grants") else {
        return;
    };
    let outside = scene.path("outside");
    std::os::unix::fs::symlink(&outside, scene.base.join("way")).unwrap();
    let way = scene.path("way");
    let script = format!(
        "cat {outside}/secret && (echo x > {outside}/new) 2>&1 && rm {outside}/new && echo wrote; true"
    );
    let control = scene.sh(&["-n"], &script);
    assert_eq!(control.assert_success().stdout_text(), "", "not granted");
    for spelling in [
        format!("{outside}/"),
        format!("{outside}//"),
        format!("{outside}/."),
        format!("{way}/"),
        way,
    ] {
        let output = scene.sh(&["-n", "--ro", &spelling], &script);
        let text = output.assert_success().stdout_text();
        assert!(text.contains(SECRET), "{spelling}: {output}");
        assert!(
            text.contains("Read-only file system"),
            "{spelling}: {output}"
        );
        assert!(!text.contains("wrote") && !exists(&scene.base.join("outside/new")));
        let output = scene.sh(&["-n", "--rw", &spelling], &script);
        assert!(
            output.stdout_text().ends_with("wrote\n"),
            "{spelling}: {output}"
        );
    }
}

#[test]
fn hidden_paths_in_every_spelling() {
    let Some(scene) = Scene::new("spelled_hidden") else {
        return;
    };
    let composed = "caf\u{e9}";
    let decomposed = "cafe\u{301}";
    for name in ["keys/secret", "KEYS.TXT", composed, decomposed] {
        scene.file(&format!("home/work/project/{name}"), SECRET);
    }
    std::os::unix::fs::symlink("work", scene.home().join("linked")).unwrap();
    let all = format!("cat keys/secret KEYS.TXT {composed} {decomposed}");
    let control = scene.sh(&["-n", "--hide", "file"], &all);
    assert_eq!(control.stdout_text(), SECRET.repeat(4), "{control}");
    let absolute = scene.path("home/work/project/keys");
    let linked = scene.path("home/linked/project/keys");
    for (spelling, path) in [
        ("keys", "keys/secret"),
        ("keys/", "keys/secret"),
        ("keys//", "keys/secret"),
        ("./keys/.", "keys/secret"),
        (absolute.as_str(), "keys/secret"),
        (linked.as_str(), "keys/secret"),
        ("keys/secret", "keys/secret"),
        ("k*/s*", "keys/secret"),
        ("keys.t*", "KEYS.TXT"),
        (composed, composed),
        (decomposed, decomposed),
    ] {
        let script = format!("cat '{path}'; true");
        let output = scene.sh(&["-n", "--hide", spelling], &script);
        let text = output.assert_success().stdout_text();
        assert!(!text.contains(SECRET), "{spelling}: {output}");
    }
    // As docs/policy.md says: of two Unicode forms of a name, the one that is written.
    let output = scene.sh(&["-n", "--hide", composed], &format!("cat {decomposed}"));
    assert_eq!(output.assert_success().stdout_text(), SECRET);
}

/// The project itself, entered through a link: everything counts under its real path, and only there.
#[test]
fn a_project_that_is_entered_through_a_link() {
    let Some(scene) = Scene::new("spelled_project") else {
        return;
    };
    std::os::unix::fs::symlink("work/project", scene.home().join("linked")).unwrap();
    let link = scene.path("home/linked");
    let real = scene.path("home/work/project");
    let script = format!(
        "pwd -P; echo x >> file; echo evil >> .git/config; echo evil >> {link}/.git/config; ls {link}; true"
    );
    let config = scene.text("home/work/project/.git/config");
    for flags in [&[][..], &["--project", &format!("{link}/")]] {
        let flags: Vec<&str> = [&["-n"], flags].concat();
        let command = scene.run(&flags).args(["sh", "-c", &script]);
        let output = command.current_dir(&link).output();
        assert_eq!(
            output.assert_success().stdout_text(),
            format!("{real}\n"),
            "{output}"
        );
        assert_eq!(scene.text("home/work/project/.git/config"), config);
    }
    assert!(scene.text("home/work/project/file").ends_with("x\nx\n"));
}
