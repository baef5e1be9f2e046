#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

const ARN: &str = "arn:aws:sts::123456789012:assumed-role/reviews/fn-1";

/// What the service documents, line breaks and all.
fn documented() -> String {
    format!(
        r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
  <Arn>{ARN}</Arn>
    <UserId>AROAEXAMPLE:fn-1</UserId>
    <Account>123456789012</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata>
    <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>
  </ResponseMetadata>
</GetCallerIdentityResponse>
"#
    )
}

#[test]
fn the_documented_answer_is_read() {
    let moto = documented().replace('\n', "").replace("  ", "");
    let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", documented());
    for text in [documented(), moto, declared] {
        let (role, unique_id) = parse(text.as_bytes()).unwrap().role().unwrap();
        assert_eq!(role.to_string(), "arn:aws:iam::123456789012:role/reviews");
        assert_eq!(unique_id, "AROAEXAMPLE");
    }
}

#[test]
fn every_other_document_is_refused() {
    let good = documented();
    let evil = "<Arn>arn:aws:sts::123456789012:assumed-role/admin/x</Arn>";
    let cases = [
        ("nothing", String::new()),
        ("JSON", r#"{"GetCallerIdentityResponse":{}}"#.to_owned()),
        ("no namespace", good.replace(" xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"", "")),
        ("another namespace", good.replace("2011-06-15", "2011-06-16")),
        ("another root", good.replace("GetCallerIdentityResponse", "AssumeRoleResponse")),
        ("an error", "<ErrorResponse><Error><Code>x</Code></Error></ErrorResponse>".to_owned()),
        ("two ARNs", good.replace("<UserId>", &format!("{evil}<UserId>"))),
        ("the ARN outside", good.replace("<ResponseMetadata>", &format!("{evil}<ResponseMetadata>"))),
        ("two results", {
            let result =
                &good[good.find("<GetCallerIdentityResult>").unwrap()..good.find("<ResponseMetadata>").unwrap()];
            good.replace("<ResponseMetadata>", &format!("{result}<ResponseMetadata>"))
        }),
        ("two roots", format!("{good}{good}")),
        ("something after", format!("{good}<!-- -->")),
        ("something before", format!("x{good}")),
        ("no ARN", good.replace(&format!("<Arn>{ARN}</Arn>"), "")),
        ("no user id", good.replace("<UserId>AROAEXAMPLE:fn-1</UserId>", "")),
        ("no account", good.replace("<Account>123456789012</Account>", "")),
        ("an empty ARN", good.replace(ARN, "")),
        ("a document type", format!("<!DOCTYPE x [<!ENTITY e \"y\">]>{good}")),
        ("an entity", good.replace("reviews", "&e;")),
        ("a character reference", good.replace("reviews", "review&#115;")),
        ("CDATA", good.replace(ARN, &format!("<![CDATA[{ARN}]]>"))),
        ("a comment", good.replace("reviews", "<!-- -->reviews")),
        ("a processing instruction", good.replace("<Arn>", "<?x?><Arn>")),
        ("an attribute", good.replace("<Arn>", "<Arn a=\"b\">")),
        ("a blank in a tag", good.replace("<Arn>", "<Arn >")),
        ("a prefix", good.replace("Arn>", "a:Arn>")),
        ("an element in the ARN", good.replace(ARN, &format!("<b>{ARN}</b>"))),
        ("text between", good.replace("<UserId>", "x<UserId>")),
        ("a blank in the ARN", good.replace("reviews", "rev iews")),
        ("a blank around the ARN", good.replace(ARN, &format!(" {ARN} "))),
        ("a line break in the ARN", good.replace("reviews", "rev\niews")),
        ("another letter", good.replace("reviews", "reviéws")),
        ("ends crossed", good.replace("</Arn>", "</UserId>")),
        ("a self-closing tag", good.replace("<ResponseMetadata>", "<GetCallerIdentityResult/><ResponseMetadata>")),
        ("an unknown element", good.replace("<UserId>", "<Role>x</Role><UserId>")),
        ("a long text", good.replace("reviews", &"r".repeat(MAX_TEXT_BYTES))),
        ("cut", good[..good.len() / 2].to_owned()),
        ("a byte order mark", format!("\u{feff}{good}")),
    ];
    for (name, text) in cases {
        assert_ne!(text, good, "{name}");
        assert!(parse(text.as_bytes()).is_err(), "{name}");
    }
    assert!(parse(&[0xff, 0xfe]).is_err());
}

#[test]
fn pathological_arns_name_no_role() {
    for (arn, user_id, account) in [
        ("arn:aws:iam::123456789012:user/alice", "AIDAEXAMPLE", "123456789012"),
        ("arn:aws:iam::123456789012:root", "123456789012", "123456789012"),
        ("arn:aws:sts::123456789012:federated-user/alice", "123456789012:alice", "123456789012"),
        ("arn:aws:iam::123456789012:role/reviews", "AROAEXAMPLE", "123456789012"),
        ("arn:aws:sts::123456789012:assumed-role/reviews", "AROAEXAMPLE:reviews", "123456789012"),
        ("arn:aws:sts::123456789012:assumed-role//fn-1", "AROAEXAMPLE:fn-1", "123456789012"),
        ("arn:aws:sts::123456789012:assumed-role/reviews/", "AROAEXAMPLE:", "123456789012"),
        ("arn:aws:sts::123456789012:assumed-role/a/reviews/fn-1", "AROAEXAMPLE:fn-1", "123456789012"),
        ("arn:aws:sts::123456789012:assumed-role/*/fn-1", "AROAEXAMPLE:fn-1", "123456789012"),
        ("arn:aws:sts:::assumed-role/reviews/fn-1", "AROAEXAMPLE:fn-1", ""),
        ("arn:aws:sts::12345678901:assumed-role/reviews/fn-1", "AROAEXAMPLE:fn-1", "12345678901"),
        ("arn:evil:sts::123456789012:assumed-role/reviews/fn-1", "AROAEXAMPLE:fn-1", "123456789012"),
        ("assumed-role/reviews/fn-1", "AROAEXAMPLE:fn-1", "123456789012"),
        (ARN, "AROAEXAMPLE:fn-1", "999999999999"),
        (ARN, "AROAEXAMPLE:fn-2", "123456789012"),
        (ARN, "AROAEXAMPLE", "123456789012"),
        (ARN, "AROAEXAMPLE:fn-1:fn-1", "123456789012"),
        (ARN, "AIDAEXAMPLE:fn-1", "123456789012"),
        (ARN, "AROA:fn-1", "123456789012"),
        (ARN, "AROA/EXAMPLE:fn-1", "123456789012"),
        (ARN, ":fn-1", "123456789012"),
    ] {
        let identity = Identity { arn: arn.to_owned(), user_id: user_id.to_owned(), account: account.to_owned() };
        assert!(identity.role().is_err(), "{arn} {user_id} {account}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
    }

    /// Whatever is put in somewhere: the document is refused, or says what it said, up to what is visible in the text
    /// of one of its three elements.
    #[test]
    fn nothing_that_is_put_in_hides(at in any::<prop::sample::Index>(), put in "[<>/&!?A-Za-z \"=\\-]{1,12}") {
        let good = documented();
        let mut changed = good.clone();
        changed.insert_str(at.index(good.len()), &put);
        if let Ok(found) = parse(changed.as_bytes()) {
            for (element, text) in [("Arn", &found.arn), ("UserId", &found.user_id), ("Account", &found.account)] {
                let element = format!("<{element}>{text}</{element}>");
                prop_assert_eq!(changed.matches(&element).count(), 1);
            }
        }
    }
}
