//! Units, comparison and ceiling of limits.

use proptest::prelude::*;

use super::*;

fn said(entries: &[(LimitKey, &str)]) -> Limits {
    let mut limits = Limits::default();
    for (key, text) in entries {
        let limit = key.parse(text).unwrap();
        limits.set(*key, Sourced::new(limit, Origin::flag(key.flag())));
    }
    limits
}

#[test]
fn every_quantity_is_read_in_its_base_unit() {
    for (key, text, expected) in [
        (LimitKey::Memory, "8GiB", 8 << 30),
        (LimitKey::Memory, "8G", 8 << 30),
        (LimitKey::Memory, "512M", 512 << 20),
        (LimitKey::Memory, "1GB", 1_000_000_000),
        (LimitKey::Swap, "0", 0),
        (LimitKey::Cpus, "2", 2000),
        (LimitKey::Cpus, "0.5", 500),
        (LimitKey::Cpus, "1.125", 1125),
        (LimitKey::CpuWeight, "10000", 10_000),
        (LimitKey::Pids, "512", 512),
        (LimitKey::Pids, "4194304", 4_194_304),
        (LimitKey::IoWrite, "50MB/s", 50_000_000),
        (LimitKey::IoRead, "1MiB", 1 << 20),
        (LimitKey::Timeout, "90", 90_000),
        (LimitKey::Timeout, "90s", 90_000),
        (LimitKey::Timeout, "2h", 7_200_000),
        (LimitKey::IdleTimeout, "30min", 1_800_000),
        (LimitKey::IdleTimeout, "30m", 1_800_000),
        (LimitKey::Timeout, "1 d", 86_400_000),
    ] {
        assert_eq!(key.parse(text), Ok(Limit::At(expected)), "{key} {text}");
    }
    assert_eq!(LimitKey::Pids.parse("none"), Ok(Limit::None));
}

#[test]
fn what_is_not_exact_is_refused() {
    for (key, bad) in [
        (LimitKey::Memory, "8g"),
        (LimitKey::Memory, "lots"),
        (LimitKey::Memory, "1KiB"),
        (LimitKey::Memory, "-1"),
        (LimitKey::Memory, "1.5GiB"),
        (LimitKey::Memory, "None"),
        (LimitKey::Memory, "8GiB/s"),
        (LimitKey::Cpus, "0"),
        (LimitKey::Cpus, "0.001"),
        (LimitKey::Cpus, "1.2345"),
        (LimitKey::Cpus, "1."),
        (LimitKey::Cpus, ".5"),
        (LimitKey::Cpus, "2,5"),
        (LimitKey::Cpus, "1e3"),
        (LimitKey::Cpus, "inf"),
        (LimitKey::CpuWeight, "0"),
        (LimitKey::CpuWeight, "10001"),
        (LimitKey::CpuWeight, "none"),
        (LimitKey::Pids, "1"),
        (LimitKey::Pids, "+64"),
        (LimitKey::Pids, "0x40"),
        (LimitKey::Pids, "4194305"),
        (LimitKey::Cpus, "8193"),
        (LimitKey::IoRead, "5MB/min"),
        (LimitKey::Timeout, "0"),
        (LimitKey::Timeout, "1w"),
        (LimitKey::Timeout, "1h30m"),
        (LimitKey::Timeout, "1.5h"),
        (LimitKey::Timeout, "10 "),
        (LimitKey::Timeout, "h"),
        (LimitKey::Timeout, ""),
        (LimitKey::Timeout, "99999999999999999999"),
        (LimitKey::Timeout, "999999999999999999d"),
        (LimitKey::TmpSize, "none"),
    ] {
        assert!(key.parse(bad).is_err(), "{key} took {bad:?}");
    }
}

#[test]
fn wider_is_told_for_each_key_in_its_own_direction() {
    let nothing = Limits::default();
    let wider =
        |new: &[(LimitKey, &str)], old: &[(LimitKey, &str)]| said(new).widenings(&said(old));
    // A limit that falls away or grows.
    assert_eq!(
        nothing.widenings(&said(&[(LimitKey::Memory, "1GiB")])),
        [
            "use any amount of memory",
            "use any amount of swap space",
            "fill 2GiB in its /tmp"
        ]
    );
    // A limit of the memory keeps from the swap space, too, as long as nothing is said of that.
    let memory = (LimitKey::Memory, "1GiB");
    assert_eq!(
        wider(&[memory, (LimitKey::Swap, "2GiB")], &[memory]),
        ["use 2GiB of swap space"]
    );
    assert_eq!(
        wider(&[memory, (LimitKey::Swap, "none")], &[memory]),
        ["use any amount of swap space"]
    );
    assert!(wider(&[memory], &[memory, (LimitKey::Swap, "2GiB")]).is_empty());
    assert_eq!(
        wider(&[(LimitKey::Memory, "2GiB")], &[(LimitKey::Memory, "1GiB")]),
        ["use 2GiB of memory", "fill 1GiB in its /tmp"]
    );
    assert!(wider(&[(LimitKey::Memory, "1GiB")], &[(LimitKey::Memory, "2GiB")]).is_empty());
    assert!(wider(&[(LimitKey::Memory, "1GiB")], &[]).is_empty());
    // The default of processes is a limit, too.
    assert_eq!(
        wider(&[(LimitKey::Pids, "none")], &[]),
        ["run any number of processes at a time"]
    );
    assert_eq!(
        wider(&[(LimitKey::Pids, "5000")], &[]),
        ["run 5000 processes at a time"]
    );
    assert!(wider(&[(LimitKey::Pids, "4096")], &[]).is_empty());
    // What is taken from others is wider when it grows; none of it is the narrowest.
    assert_eq!(wider(&[(LimitKey::MemoryLow, "1GiB")], &[]).len(), 1);
    assert!(wider(&[(LimitKey::MemoryLow, "none")], &[]).is_empty());
    assert_eq!(wider(&[(LimitKey::CpuWeight, "200")], &[]).len(), 1);
    assert!(wider(&[(LimitKey::CpuWeight, "50")], &[]).is_empty());
    assert_eq!(wider(&[], &[(LimitKey::IoWeight, "50")]).len(), 1);
    // What is left to others is wider when it shrinks.
    assert_eq!(
        wider(&[(LimitKey::DiskFree, "10MiB")], &[]),
        ["fill disks until 10MiB are left"]
    );
    assert_eq!(wider(&[(LimitKey::DiskFree, "none")], &[]), ["fill disks"]);
    assert!(wider(&[(LimitKey::DiskFree, "2GiB")], &[]).is_empty());
    assert_eq!(wider(&[], &[(LimitKey::DiskFree, "2GiB")]).len(), 1);
    // Times.
    assert_eq!(
        wider(&[(LimitKey::Timeout, "2h")], &[(LimitKey::Timeout, "1h")]),
        ["run for 2h"]
    );
    assert_eq!(
        wider(&[], &[(LimitKey::IdleTimeout, "1h")]),
        ["be idle without end"]
    );
}

#[test]
fn nothing_goes_above_the_ceiling() {
    let ceiling = said(&[
        (LimitKey::Memory, "4GiB"),
        (LimitKey::Pids, "1000"),
        (LimitKey::CpuWeight, "100"),
        (LimitKey::Timeout, "8h"),
    ]);
    let mut limits = said(&[
        (LimitKey::Memory, "8GiB"),
        (LimitKey::Timeout, "1h"),
        (LimitKey::Cpus, "2"),
    ]);
    let notices = limits.hold_below(&ceiling);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].starts_with("limit `memory` of 8GiB (flag --memory) is above the ceiling, 4GiB"),
        "{notices:?}"
    );
    assert_eq!(limits.value(LimitKey::Memory), Some(4 << 30));
    // The default gives way without a word; what nobody limited is limited now.
    assert_eq!(limits.value(LimitKey::Pids), Some(1000));
    assert_eq!(limits.value(LimitKey::Timeout), Some(3_600_000));
    assert_eq!(limits.value(LimitKey::Cpus), Some(2000));
    assert!(limits.stated(LimitKey::CpuWeight).is_none());
    // "none" is above every ceiling.
    let mut limits = said(&[(LimitKey::Memory, "none")]);
    assert_eq!(limits.hold_below(&ceiling).len(), 1);
    assert_eq!(limits.value(LimitKey::Memory), Some(4 << 30));
    // The swap space that a ceiling of the memory denies is not to be had by a word.
    for (swap, held) in [("none", 0), ("1GiB", 0), ("0", 0)] {
        let mut limits = said(&[(LimitKey::Swap, swap)]);
        limits.hold_below(&ceiling);
        assert_eq!(limits.value(LimitKey::Swap), Some(held), "{swap}");
    }
    let generous = said(&[(LimitKey::Memory, "4GiB"), (LimitKey::Swap, "2GiB")]);
    let mut limits = said(&[(LimitKey::Swap, "none")]);
    assert_eq!(limits.hold_below(&generous).len(), 1);
    assert_eq!(limits.value(LimitKey::Swap), Some(2 << 30));
}

#[test]
fn a_limit_of_the_memory_holds_what_lies_in_memory() {
    let tmp = |entries: &[(LimitKey, &str)]| said(entries).value(LimitKey::TmpSize);
    assert_eq!(tmp(&[]), Some(2 << 30));
    assert_eq!(tmp(&[(LimitKey::Memory, "1GiB")]), Some(512 << 20));
    assert_eq!(tmp(&[(LimitKey::Memory, "64GiB")]), Some(2 << 30));
    assert_eq!(tmp(&[(LimitKey::Memory, "none")]), Some(2 << 30));
    // What is said holds.
    let both = [(LimitKey::Memory, "1GiB"), (LimitKey::TmpSize, "4GiB")];
    assert_eq!(tmp(&both), Some(4 << 30));
}

#[test]
fn keys_and_flags_are_the_same_words() {
    for key in LimitKey::ALL {
        assert_eq!(key.flag(), format!("--{}", key.as_str().replace('_', "-")));
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(value in 1u64..=1 << 50) {
        for &key in LimitKey::ALL {
            let value = match key.quantity() {
                Quantity::Weight => 1 + value % WEIGHT_MAX,
                Quantity::Time => (value % (1 << 40) + 1) * 1000,
                _ => value.clamp(key.least(), key.most().unwrap_or(u64::MAX)),
            };
            prop_assert_eq!(key.parse(&key.show(value)), Ok(Limit::At(value)));
        }
    }

    #[test]
    fn never_panics(text in ".{0,24}") {
        for key in LimitKey::ALL {
            let _ = key.parse(&text);
        }
    }
}
