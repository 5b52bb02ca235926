//! The set of system calls that an agent can reach, compared as a whole: with the checked-in lists in `golden/`, with
//! what the engine says about itself, and with what happens when each call is really made.
//!
//! `RCC_BLESS=1` writes the lists anew; the difference is then reviewed like any other change.
//!
//! Must not filter or sort away a surprise: every number from 0 to 600 is in the comparison.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod golden;
mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rcc_plan::SeccompProfile;
use rcc_testkit::syscalls;
use scene::Scene;

/// Chooses the filter in the user's own policy.
fn choose(scene: &Scene, profile: &str) {
    let policy = format!("version = 1\n[hardening]\nseccomp = \"{profile}\"\n");
    scene.file("home/.config/rcc/config.toml", policy);
}

/// What the filter answers to every number, by the kernel itself and without making the call.
fn answers(scene: &Scene) -> BTreeMap<String, String> {
    let answers = scene.filter(&["-n"], &["all"]);
    assert!(answers.len() > 590, "{} numbers", answers.len());
    answers
        .into_iter()
        .map(|(name, answer)| (name, answer.as_str().unwrap().to_owned()))
        .collect()
}

/// One line for each call that is not simply unknown; the head says what the rest gets.
fn render(profile: &str, answers: &BTreeMap<String, String>) -> String {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, answer) in answers {
        groups.entry(answer).or_default().insert(name);
    }
    let mut text = format!(
        "# System calls of the {profile} profile by what the filter answers; every other number: ENOSYS.\n"
    );
    for (answer, names) in groups.iter().filter(|(answer, _)| **answer != "ENOSYS") {
        writeln!(text, "\n[{answer}] {}", names.len()).unwrap();
        for name in names {
            writeln!(text, "{name}").unwrap();
        }
    }
    text
}

/// Numbers of the calls that are allowed, from the kernel's answers.
fn allowed(answers: &BTreeMap<String, String>) -> BTreeSet<u32> {
    answers
        .iter()
        .filter(|(_, answer)| *answer == "allowed")
        .map(|(name, _)| {
            u32::try_from(syscalls::number(name).unwrap_or_else(|| panic!("{name} has no name")))
                .unwrap()
        })
        .collect()
}

fn compare(profile: &str, own_words: &SeccompProfile) {
    let Some(scene) = Scene::new(profile) else {
        return;
    };
    choose(&scene, profile);
    let answers = answers(&scene);
    let stated: BTreeSet<u32> = rcc_native::allowed_calls(own_words).into_keys().collect();
    assert_eq!(
        allowed(&answers),
        stated,
        "the kernel's answers and the engine's own list"
    );
    // The lists hold names of one machine's table; other machines are compared with the engine's list only.
    if cfg!(target_arch = "x86_64") {
        golden::assert_golden(
            &format!("syscalls-{profile}.txt"),
            &render(profile, &answers),
        );
    }
}

#[test]
fn default_profile_reaches_exactly_the_listed_calls() {
    compare("default", &SeccompProfile::Default);
}

#[test]
fn strict_profile_reaches_exactly_the_listed_calls() {
    compare("strict", &SeccompProfile::Strict);
}

#[test]
fn without_a_sandbox_every_number_is_let_through() {
    let Some(scene) = Scene::new("control") else {
        return;
    };
    let answers = scene.filter_outside(&["all"]);
    let refused: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| *answer != "allowed" && *answer != "unfiltered")
        .collect();
    assert!(
        answers.len() > 590 && refused.is_empty(),
        "the control: {refused:?}"
    );
}

/// The same by behaviour: each call is really made, with arguments that nothing can come of.
#[test]
fn calls_that_are_made_behave_as_the_lists_say() {
    let Some(scene) = Scene::new("behaviour") else {
        return;
    };
    let allowed: BTreeSet<String> = rcc_native::allowed_calls(&SeccompProfile::Default)
        .into_values()
        .map(str::to_owned)
        .collect();
    let inside = scene.inside(&["sweep"]);
    let outside = scene.outside(&["sweep"]);
    let answer = |record: &rcc_testkit::probe::Record, name: &str| {
        record.detail[name].as_str().unwrap_or("").to_owned()
    };
    let mut compared = 0;
    for name in inside.assert_ok().detail.as_object().unwrap().keys() {
        let (inside, outside) = (answer(&inside, name), answer(&outside, name));
        if inside.starts_with("skipped") {
            continue;
        }
        compared += 1;
        if allowed.contains(name) {
            // ENOSYS inside is right only where this kernel does not have the call.
            assert!(
                inside != "ENOSYS" || outside == "ENOSYS",
                "{name}: inside {inside}, outside {outside}"
            );
        } else {
            assert!(
                inside == "ENOSYS" || inside == "EPERM",
                "{name}: inside {inside}, outside {outside}"
            );
        }
    }
    assert!(compared > 450, "{compared} calls were compared");
}
