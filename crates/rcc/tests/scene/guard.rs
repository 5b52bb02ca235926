//! The guard of protected paths of a run under way, for tests that need its window to be open for a while.

use rcc_testkit::world::Running;

use super::Scene;

/// The guard of a run, found by its parent, and stopped or continued to make its window as long as a test needs.
pub(crate) struct GuardProcess<'a> {
    scene: &'a Scene,
    pub(crate) pid: String,
}

impl<'a> GuardProcess<'a> {
    #[track_caller]
    pub(crate) fn of(scene: &'a Scene, run: &Running) -> Self {
        let script = r#"
            while :; do
                for process in /proc/[0-9]*; do
                    read -r name < $process/comm && [ "$name" = rcc-guard ] || continue
                    grep -q "^PPid:[[:space:]]*$1\$" $process/status && echo ${process#/proc/} && exit
                done 2>/dev/null
            done"#;
        let supervisor = run.pid().to_string();
        let found = scene
            .command("bash")
            .args(["-c", script, "bash", &supervisor]);
        let pid = found.output().assert_success().stdout_text();
        Self {
            scene,
            pid: pid.trim().to_owned(),
        }
    }

    pub(crate) fn stop(&self) {
        let script =
            "kill -STOP $1 && until grep -q \"^State:[[:space:]]*T\" /proc/$1/status; do :; done";
        let stop = self.scene.command("bash");
        stop.args(["-c", script, "bash", &self.pid])
            .output()
            .assert_success();
    }

    pub(crate) fn go_on(&self) {
        let script = ["-c", "kill -CONT $1", "bash", &self.pid];
        self.scene
            .command("bash")
            .args(script)
            .output()
            .assert_success();
    }
}
