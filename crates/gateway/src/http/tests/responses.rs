//! Answers of servers, whole and cut.

use super::super::Asked;
use super::*;

const GET: Asked = Asked {
    is_head: false,
    upgrade: false,
};
const HEAD: Asked = Asked {
    is_head: true,
    upgrade: false,
};
const UPGRADE: Asked = Asked {
    is_head: false,
    upgrade: true,
};

/// Shows answers in these portions; idle at the end, idle anywhere before, and what became of the upgrade.
fn follow<'a>(
    asked: &[Asked],
    portions: impl IntoIterator<Item = &'a [u8]>,
) -> (bool, Option<bool>) {
    let mut responses = Responses::default();
    for &asked in asked {
        responses.expect(asked);
    }
    for portion in portions {
        assert!(
            !responses.is_idle(),
            "idle in front of {}",
            portion.escape_ascii()
        );
        responses.see(portion);
    }
    (responses.is_idle(), responses.switched())
}

#[test]
fn the_end_of_an_answer_is_known_or_said_to_be_unknown() {
    type Case<'a> = (&'a [Asked], &'a [u8], bool, Option<bool>);
    let cases: &[Case<'_>] = &[
        (&[GET], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true, None),
        (&[GET], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", false, None),
        (&[GET], b"HTTP/1.1 204 No Content\r\n\r\n", true, None),
        (&[GET], b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", true, None),
        (&[HEAD], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, None),
        (&[GET], b"HTTP/1.1 200 OK\r\n\r\nuntil the end", false, None),
        (&[GET], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true, None),
        (&[GET], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false, None),
        (&[GET], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, None),
        (&[GET], b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", false, None),
        (&[GET], b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, None),
        (&[GET], b"HTTP/1.1 100 Continue\r\n\r\n", false, None),
        (&[GET, GET], b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false, None),
        (&[GET, HEAD], b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, None),
        (&[GET], b"220 mail.example.com\r\n\r\n", false, None),
        (&[GET], b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", false, None),
        (&[GET], b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, None),
        (&[UPGRADE], b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x01a", false, Some(true)),
        (&[UPGRADE], b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 S\r\n\r\n", false, Some(true)),
        (&[UPGRADE], b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", true, Some(false)),
        (&[UPGRADE], b"HTTP/1.1 1", false, None),
    ];
    for &(asked, bytes, idle, switched) in cases {
        let shown = bytes.escape_ascii();
        let (was_idle, has_switched) = follow(asked, [bytes]);
        assert_eq!(was_idle, idle, "{shown}");
        // What is lost is told to those who wait, as a no.
        assert_eq!(
            has_switched.filter(|_| asked[0].upgrade),
            switched,
            "{shown}"
        );
        assert_eq!(
            follow(asked, bytes.chunks(1)),
            (was_idle, has_switched),
            "{shown}"
        );
        for seed in 1..10 {
            let portions = random_portions(bytes, seed);
            assert_eq!(follow(asked, portions), (was_idle, has_switched), "{shown}");
        }
    }
}

#[test]
fn a_long_body_may_go_by_unseen() {
    let mut responses = Responses::default();
    responses.expect(GET);
    assert_eq!(responses.unseen(), 0);
    responses.see(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n0123456789");
    assert_eq!(responses.unseen(), 999_990);
    responses.skip(999_989);
    assert!(!responses.is_idle());
    responses.see(b"z");
    assert!(responses.is_idle());
    // An answer that was not asked for.
    responses.see(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(!responses.is_idle());
    assert_eq!(responses.unseen(), u64::MAX);
}

#[test]
fn what_is_not_answered_is_not_remembered_for_ever() {
    let mut responses = Responses::default();
    for _ in 0..5000 {
        responses.expect(GET);
    }
    assert_eq!(responses.unseen(), u64::MAX);
    assert!(!responses.is_idle());
    let mut responses = Responses::default();
    responses.expect(GET);
    responses.see(&[b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'y'; 70_000]].concat());
    assert_eq!(responses.unseen(), u64::MAX);
}
