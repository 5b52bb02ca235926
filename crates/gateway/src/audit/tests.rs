//! What is written for which events, and that the log stays bounded.

use std::io::{Read as _, Seek as _};

use rcc_spec::Protocol;

use super::*;

fn refusal(name: &str) -> Record {
    let mut record = Record::new(Event::Refuse, Protocol::Tcp, Outcome::Deny);
    record.name = Some(name.to_owned());
    record.reason = Some("no_rule");
    record
}

fn temporary() -> File {
    let directory = std::env::temp_dir();
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
    rustix::fs::open(
        &directory,
        flags,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap()
    .into()
}

fn lines(mut file: File) -> Vec<serde_json::Value> {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn lines_carry_time_run_and_fields() {
    let file = temporary();
    let log = AuditLog::new(
        "run \"1\"",
        AuditSink::File(file.try_clone().unwrap()),
        1 << 20,
    );
    log.log(&refusal("a.example.com"));
    let summary = log.close();
    assert_eq!(summary.lines_written, 1);
    let lines = lines(file);
    assert_eq!(lines[0]["run"], "run \"1\"");
    assert_eq!(lines[0]["event"], "refuse");
    assert_eq!(lines[0]["name"], "a.example.com");
    assert_eq!(lines[0]["verdict"], "deny");
    assert_eq!(lines[0]["time"].as_str().unwrap().len(), 24);
    assert_eq!(lines[0].get("bytes_sent"), None);
}

#[test]
fn equal_refusals_are_counted_after_a_burst() {
    let file = temporary();
    let log = AuditLog::new("r", AuditSink::File(file.try_clone().unwrap()), 1 << 20);
    for _ in 0..100 {
        log.log(&refusal("same.example.com"));
    }
    log.log(&refusal("other.example.com"));
    log.close();
    let lines = lines(file);
    assert_eq!(lines.len(), 12);
    let told: u64 = lines
        .iter()
        .filter_map(|line| line["repeated"].as_u64())
        .sum();
    assert_eq!(told, 90);
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let file = temporary();
    let log = AuditLog::new("r", AuditSink::File(file.try_clone().unwrap()), 1 << 30);
    for number in 0..50_000 {
        log.log(&refusal(&format!("{number}.example.com")));
    }
    let summary = log.close();
    let lines = lines(file);
    let told: u64 = lines
        .iter()
        .filter(|line| line["event"] == "suppressed")
        .map(|line| line["refuse"].as_u64().unwrap())
        .sum();
    let written = lines
        .iter()
        .filter(|line| line["event"] == "refuse")
        .count() as u64;
    assert!(told > 0);
    assert_eq!(told + written, 50_000);
    assert_eq!(told, summary.lines_suppressed);
}

#[test]
fn the_file_has_a_limit() {
    let file = temporary();
    let log = AuditLog::new("r", AuditSink::File(file.try_clone().unwrap()), 4096);
    for number in 0..100 {
        log.log(&refusal(&format!("{number}.example.com")));
    }
    let summary = log.close();
    assert!(summary.lines_suppressed > 50);
    assert!(file.metadata().unwrap().len() < 4096 + 512);
}

#[test]
fn a_full_disk_is_reported() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let log = AuditLog::new("r", AuditSink::File(full), 1 << 20);
    log.log(&refusal("a.example.com"));
    let summary = log.close();
    assert_eq!((summary.lines_written, summary.lines_lost), (0, 1));
    assert!(summary.last_error.unwrap().contains("space"));
}

#[test]
fn the_first_line_starts_the_thread() {
    let file = temporary();
    let log = AuditLog::new("r", AuditSink::File(file.try_clone().unwrap()), 1 << 20);
    assert!(log.writer.lock().unwrap().is_none());
    assert_eq!(log.close(), AuditSummary::default());
    assert!(lines(file.try_clone().unwrap()).is_empty());
    let log = AuditLog::new("r", AuditSink::File(file.try_clone().unwrap()), 1 << 20);
    log.log(&refusal("a.example.com"));
    assert!(log.writer.lock().unwrap().is_some());
    assert_eq!(log.close().lines_written, 1);
    assert_eq!(lines(file).len(), 1);
}
