//! Scratch driver.
#![forbid(unsafe_code)]

use rcc_native::*;
fn main() {
    if std::env::args().next().as_deref() == Some(STAGE_NAME) { std::process::exit(stage_main()); }
    let text = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let plan: rcc_plan::Plan = serde_json::from_slice(&text).unwrap();
    let t = std::time::Instant::now();
    let mut p = match prepare(&plan) { Ok(p) => p, Err(e) => { eprintln!("{e:?}"); std::process::exit(125) } };
    if std::env::var("T").is_ok() { eprintln!("prepared {:?}", t.elapsed()); }
    let _l = p.take_listeners();
    let r = p.start(plan.streams).unwrap();
    let o = r.relay(None).unwrap();
    if std::env::var("T").is_ok() { eprintln!("{o:?} {:?}", t.elapsed()); }
    if let Outcome::Exited(c) = o { std::process::exit(c) } else { eprintln!("{o:?}"); }
}
