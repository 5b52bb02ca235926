//! The control socket and the questions to the user: what clients can do, and what they cannot do to the gateway.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcc_gateway::{Answer, Question, Request, Response, parse_response, request_line};
use rcc_spec::Protocol;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::world::{PATIENCE, Setup, World, assert_reset};

/// A world with a control socket.
struct Controlled {
    world: World,
    path: PathBuf,
}

impl Drop for Controlled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Controlled {
    fn start(mut setup: Setup) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("rcc-control-{}-{number}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        setup.control = Some(UnixListener::bind(&path).unwrap().into());
        let world = setup.start();
        world.names.host("kept.example.com", &["203.0.113.7"]);
        world.names.host("asked.example.com", &["203.0.113.8"]);
        for address in ["203.0.113.7:7000", "203.0.113.8:7000", "203.0.113.9:7000"] {
            world.serve(address, |mut stream: TcpStream| {
                let mut word = [0; 4];
                while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
            });
        }
        Self { world, path }
    }

    fn asking(seconds: u32) -> Self {
        let mut setup = Setup::allow(&["kept.example.com:7000"]).deny(&["denied.example.com"]);
        setup.ask_seconds = Some(seconds);
        Self::start(setup)
    }

    fn client(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, request: &Request) -> Response {
        let mut stream = self.client();
        stream.write_all(&request_line(request)).unwrap();
        let mut line = Vec::new();
        BufReader::new(stream).read_until(b'\n', &mut line).unwrap();
        parse_response(line.trim_ascii_end()).unwrap()
    }

    fn questions(&self) -> Vec<Question> {
        match self.ask(&Request::Questions { seen: None }) {
            Response::Questions { questions, .. } => questions,
            other => panic!("{other:?}"),
        }
    }

    fn wait_for_question(&self) -> Question {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(question) = self.questions().into_iter().next() {
                return question;
            }
            assert!(Instant::now() < deadline, "nobody asks");
        }
    }

    fn allow(&self, rule: &str) -> Response {
        self.ask(&Request::Change {
            allow: vec![rule.to_owned()],
            deny: Vec::new(),
        })
    }
}

fn answers(stream: &mut TcpStream) -> bool {
    let mut word = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut word).is_ok() && word == *b"ping"
}

#[test]
fn rules_are_listed_changed_and_tested() {
    let controlled = Controlled::start(Setup::allow(&["kept.example.com:7000"]));
    let Response::Rules { total, rules, .. } = controlled.ask(&Request::Rules { from: 0 }) else {
        panic!("no rules");
    };
    assert_eq!((total, rules.len()), (1, 1));
    assert_eq!(rules[0].origin, "flag --allow");
    let test = |host: &str| match controlled.ask(&Request::Test {
        host: host.to_owned(),
        port: 7000,
        protocol: Protocol::Tcp,
    }) {
        Response::Tested { verdict, reached } => (verdict, reached),
        other => panic!("{other:?}"),
    };
    let (verdict, reached) = test("kept.example.com");
    assert!(verdict.is_allow());
    assert_eq!(
        reached.unwrap().address,
        Some("203.0.113.7".parse().unwrap())
    );
    let (verdict, reached) = test("asked.example.com");
    assert!(!verdict.is_allow() && reached.is_none());
    let changed = controlled.allow("asked.example.com:7000");
    assert!(
        matches!(changed, Response::Changed { cut: 0, ref still_refused } if still_refused.is_empty())
    );
    let (verdict, reached) = test("asked.example.com");
    assert_eq!(
        verdict.rule.unwrap().to_string(),
        "asked.example.com:7000 (rcc net allow)"
    );
    assert_eq!(
        reached.unwrap().address,
        Some("203.0.113.8".parse().unwrap())
    );
    let mut stream = controlled.world.connect_name("asked.example.com", 7000);
    assert!(answers(&mut stream));
    let denied = controlled.ask(&Request::Change {
        allow: Vec::new(),
        deny: vec!["asked.example.com".to_owned()],
    });
    assert!(
        matches!(denied, Response::Changed { cut: 1, .. }),
        "{denied:?}"
    );
    assert_reset(&mut stream);
    // An allowance takes the place of an added denial, and says so where a rule of the policy stands against it.
    assert!(
        matches!(controlled.allow("asked.example.com:7000"), Response::Changed { ref still_refused, .. } if still_refused.is_empty())
    );
    let bad = controlled.allow("https://example.com/\u{1b}[31m");
    let Response::Failed { reason } = bad else {
        panic!("{bad:?}")
    };
    assert!(!reason.contains('\u{1b}'), "{reason}");
    let special = controlled.allow("127.0.0.1:80");
    assert!(
        !matches!(special, Response::Changed { ref still_refused, .. } if still_refused.is_empty()),
        "{special:?}"
    );
}

#[test]
fn an_answer_lets_what_waits_go_on_once_or_for_good_or_not_at_all() {
    let controlled = Controlled::asking(60);
    let world = &controlled.world;
    let asked = world.names.messages().len();
    let mut first = world.connect_name("asked.example.com", 7000);
    let question = controlled.wait_for_question();
    assert_eq!(
        (question.host.as_str(), question.port),
        ("asked.example.com", 7000)
    );
    assert_eq!(question.rule, "asked.example.com:7000");
    // The name has not left the host.
    assert_eq!(world.names.messages().len(), asked);
    let answer = |question, answer| controlled.ask(&Request::Answer { question, answer });
    assert_eq!(
        answer(question.number, Answer::Once),
        Response::Answered { was_waiting: true }
    );
    assert!(answers(&mut first));
    // Once is once, also for the same host.
    let mut second = world.connect_name("asked.example.com", 7000);
    let question = controlled.wait_for_question();
    assert_eq!(
        answer(question.number, Answer::No),
        Response::Answered { was_waiting: true }
    );
    assert_reset(&mut second);
    assert_eq!(
        answer(question.number, Answer::Once),
        Response::Answered { was_waiting: false }
    );
    // A rule for the run answers whatever waits for it, and what was allowed once goes on.
    let mut third = world.connect_name("asked.example.com", 7000);
    controlled.wait_for_question();
    controlled.allow("asked.example.com:7000");
    assert!(answers(&mut third));
    assert!(answers(&mut first));
    assert!(controlled.questions().is_empty());
    // A denial ends all of them.
    controlled.ask(&Request::Change {
        allow: vec![],
        deny: vec!["asked.example.com".into()],
    });
    assert_reset(&mut first);
    assert_reset(&mut third);
}

#[test]
fn silence_is_a_refusal_and_equal_questions_are_one() {
    let controlled = Controlled::asking(2);
    let world = &controlled.world;
    let mut waiting: Vec<TcpStream> = (0..20)
        .map(|_| world.connect_name("asked.example.com", 7000))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let questions = controlled.questions();
        assert!(questions.len() <= 1);
        if questions
            .first()
            .is_some_and(|question| question.waiting == 20)
        {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    for stream in &mut waiting {
        assert_reset(stream);
    }
    assert!(world.dialled().is_empty());
    assert!(world.names.messages().is_empty());
    assert!(controlled.questions().is_empty());
    drop(waiting);
    let mut controlled = controlled;
    let log = controlled.world.wait_for_log(|log| {
        log.iter()
            .filter(|line| line["reason"] == "ask_timeout")
            .count()
            >= 10
    });
    assert!(log.iter().all(|line| line["event"] != "connect"));
}

#[test]
fn no_answer_opens_what_can_never_be_allowed_and_denied_hosts_are_not_asked() {
    let controlled = Controlled::asking(60);
    let world = &controlled.world;
    world.names.host("inside.example.com", &["10.1.2.3"]);
    let mut denied = world.connect("10.1.2.3:7000");
    assert_reset(&mut denied);
    assert_eq!(world.ask("denied.example.com", "A").response_code(), 5);
    let mut inside = world.connect_name("inside.example.com", 7000);
    let question = controlled.wait_for_question();
    controlled.ask(&Request::Answer {
        question: question.number,
        answer: Answer::Once,
    });
    assert_reset(&mut inside);
    assert!(world.dialled().is_empty());
}

#[test]
fn a_flood_of_questions_is_bounded_and_the_rest_goes_on() {
    let controlled = Controlled::asking(60);
    let world = &controlled.world;
    let waiting: Vec<TcpStream> = (0..64)
        .map(|number| world.connect_name(&format!("n{number}.example.com"), 7000))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while controlled.questions().len() < 64 {
        assert!(Instant::now() < deadline);
    }
    let begun = Instant::now();
    let mut refused = world.connect_name("one-more.example.com", 7000);
    assert_reset(&mut refused);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut kept = world.connect_name("kept.example.com", 7000);
    assert!(answers(&mut kept));
    drop(waiting);
}

#[test]
fn who_talks_badly_or_not_at_all_is_dropped_and_the_others_are_served() {
    let controlled = Controlled::start(Setup::allow(&["kept.example.com:7000"]));
    for bad in [
        b"nonsense\n".to_vec(),
        b"{\"version\":9,\"request\":{}}\n".to_vec(),
        [vec![b'x'; 70_000], b"\n".to_vec()].concat(),
    ] {
        let mut stream = controlled.client();
        // The far end may be closed before the last byte of a line that is too long.
        let _ = stream.write_all(&bad);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(
            String::from_utf8_lossy(&said).contains("failed"),
            "{said:?}"
        );
    }
    // Half a line, and the end.
    let mut half = controlled.client();
    half.write_all(b"{\"version\":1").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = Vec::new();
    half.read_to_end(&mut said).unwrap();
    assert!(said.is_empty());
    // More clients than there is room for: each is answered or closed, none hangs.
    // All of them stay open here, beside the gateway's own descriptors in the same process.
    let limit = getrlimit(Resource::Nofile);
    assert!(limit.maximum.is_none_or(|maximum| maximum >= 4096));
    let more = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, more).unwrap();
    const MANY: usize = 1000;
    let mut many: Vec<UnixStream> = (0..MANY).map(|_| controlled.client()).collect();
    let closed = many
        .iter_mut()
        .skip(16)
        .filter_map(|stream| {
            let mut said = String::new();
            stream.read_to_string(&mut said).ok()?;
            said.contains("too many clients").then_some(())
        })
        .count();
    assert_eq!(closed, MANY - 16);
    drop(many);
    let begun = Instant::now();
    // Until the gateway has noticed that they left.
    while matches!(
        controlled.ask(&Request::Rules { from: 0 }),
        Response::Failed { .. }
    ) {
        assert!(begun.elapsed() < PATIENCE);
    }
    // A client that asks and never reads does not keep the others waiting.
    let mut deaf = controlled.client();
    deaf.set_nonblocking(true).unwrap();
    let request = request_line(&Request::Rules { from: 0 });
    let deadline = Instant::now() + PATIENCE;
    while deaf.write(&request).is_ok() {
        assert!(Instant::now() < deadline);
    }
    let Response::Rules { total, .. } = controlled.ask(&Request::Rules { from: 0 }) else {
        panic!("no rules");
    };
    assert_eq!(total, 1);
    let mut stream = controlled.world.connect_name("kept.example.com", 7000);
    assert!(answers(&mut stream));
}
