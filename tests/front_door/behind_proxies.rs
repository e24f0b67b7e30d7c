//! Visitors behind proxies: each network has a rate of its own, whatever forms the proxy uses and whatever the visitor
//! writes before it.

use crate::support::{Raw, TestNode};

/// More than can pass from one address during a test: two at once, and one more each second.
const MANY: usize = 40;

fn node(trusted: &[&str]) -> TestNode {
    // Each node has its own rates.
    TestNode::alone(|settings| {
        settings.limits.requests_per_second = 1;
        settings.server.trusted_proxies = trusted.iter().map(|&address| address.to_owned()).collect();
    })
}

/// How many of these requests pass. Each item is one request's headers.
fn passed(node: &TestNode, all: impl Iterator<Item = Vec<(&'static str, String)>>) -> usize {
    let mut raw = Raw::connect(node.address());
    let mut passes = |headers: Vec<(&str, String)>| {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        raw.write(format!("GET /goods/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        let answer = raw.answer().expect("an answer");
        assert!([200, 429].contains(&answer.status), "{}", answer.head);
        answer.status == 200
    };
    all.filter_map(|headers| passes(headers).then_some(())).count()
}

fn one(header: &'static str, value: impl Fn(usize) -> String) -> impl Iterator<Item = Vec<(&'static str, String)>> {
    (0..MANY).map(move |i| vec![(header, value(i))])
}

/// A header, and its value in the i-th request.
type Form = (&'static str, fn(usize) -> String);

const XFF: &str = "X-Forwarded-For";
const FORWARDED: &str = "Forwarded";

#[test]
fn each_visitor_behind_a_proxy_has_a_rate_in_every_form_of_the_header() {
    let forms: [Form; 14] = [
        (XFF, |i| format!("203.0.1.{i}")),
        (XFF, |i| format!("203.0.2.{i}:{}", 40_000 + i)),
        (XFF, |i| format!("::ffff:203.0.3.{i}")),
        (XFF, |i| format!("2001:db8:1:{i:x}::7")),
        (XFF, |i| format!("[2001:db8:2:{i:x}::7]")),
        (XFF, |i| format!("[2001:db8:3:{i:x}::7]:{}", 40_000 + i)),
        (XFF, |i| format!("2001:db8:4:{i:x}:0:0:0:7:443")),
        (XFF, |i| format!("2001:db8:5:{i:x}::7:{}", 40_000 + i)),
        (XFF, |i| format!("198.51.100.1, 203.0.4.{i}:80 , 10.9.9.9:443,[2001:db8:ffff::1]:1")),
        (XFF, |i| format!("unknown, 203.0.5.{i}")),
        (FORWARDED, |i| format!("for=203.0.6.{i}")),
        (FORWARDED, |i| format!("proto=https;For=\"203.0.7.{i}:443\";by=_x, for=10.9.9.9")),
        (FORWARDED, |i| format!("for=198.51.100.1, for=\"[2001:db8:6:{i:x}::7]:443\"")),
        (FORWARDED, |i| format!("for=\"[2001:db8:7:{i:x}::7]\";host=\"a, b\"")),
    ];
    let node = node(&["127.0.0.1", "::ffff:10.9.9.9", "2001:db8:ffff::1"]);
    for (header, form) in forms {
        assert_eq!(passed(&node, one(header, form)), MANY, "{}", form(1));
    }
    // Several lines, the nearest proxy's last. `Forwarded` is not read beside it.
    let lines = |i| vec![(XFF, "198.51.100.1".to_owned()), (XFF, format!("203.0.8.{i}")), (XFF, "10.9.9.9".to_owned())];
    assert_eq!(passed(&node, (0..MANY).map(lines)), MANY);
    let both = |i| vec![(FORWARDED, "for=198.51.100.1".to_owned()), (XFF, format!("203.0.9.{i}"))];
    assert_eq!(passed(&node, (0..MANY).map(both)), MANY);
}

#[test]
fn a_visitor_cannot_get_another_rate_by_writing_the_header() {
    let forms: [Form; 9] = [
        // An entry to the left of what the proxy adds.
        (XFF, |i| format!("203.0.113.{i}, 198.51.100.1")),
        (XFF, |i| format!("203.0.113.{i}, 198.51.100.2:{}", 40_000 + i)),
        (FORWARDED, |i| format!("for=203.0.113.{i}, for=198.51.100.3")),
        (FORWARDED, |i| format!("for=203.0.113.{i};x=\", for=\"[2001:db8::1]:443\"")),
        // An entry that cannot be parsed counts as the proxy itself.
        (XFF, |i| format!("203.0.113.{i}, garbage")),
        (XFF, |i| format!("garbage-{i}")),
        (FORWARDED, |i| format!("for=_hidden{i}")),
        // One customer has a whole network and all its ports.
        (XFF, |i| format!("[2001:db8:1:2:{i:x}::7]:{}", 40_000 + i)),
        (XFF, |i| format!("2001:db8:2:2::7:{}", 1000 + i)),
    ];
    let trusting = node(&["127.0.0.1"]);
    for (header, form) in forms {
        let passed = passed(&trusting, one(header, form));
        assert!(passed < MANY, "{}: {passed} of {MANY}", form(1));
    }
    // A proxy that is not trusted is not believed.
    for trusted in [&[][..], &["10.9.9.9"]] {
        let node = node(trusted);
        let claims: [Form; 2] = [(XFF, |i| format!("203.0.113.{i}")), (FORWARDED, |i| format!("for=203.0.113.{i}"))];
        for (header, form) in claims {
            let passed = passed(&node, one(header, form));
            assert!(passed < MANY, "{header}: {passed} of {MANY}");
        }
    }
}
