use super::*;

fn is_match(regex: &Regex, text: &str) -> bool {
    regex.is_match(&as_chars(text.as_bytes()))
}

/// Pattern, texts that it matches as a whole, texts that it does not.
#[test]
fn reads_what_re2_reads() {
    let table: &[(&str, &[&str], &[&str])] = &[
        (".*", &["", "/a", "/é"], &["a\nb"]),
        ("(?s).*", &["a\nb"], &[]),
        ("a\\Cb", &["a\nb", "axb"], &["aéb", "ab"]),
        ("/v[0-9]+/.*", &["/v1/", "/v12/x"], &["/v/x", "x/v1/"]),
        ("a|ab", &["a", "ab"], &["abc"]),
        ("(?i)abc", &["ABC", "aBc"], &["abcd"]),
        ("a(?i:b)c", &["aBc"], &["ABC"]),
        ("^a$", &["a"], &["a\n", "b"]),
        ("a{2}", &["aa"], &["a", "aaa", "a{2}"]),
        ("a{2,}", &["aa", "aaaa"], &["a"]),
        ("a{,2}", &["a{,2}"], &["aa"]),
        ("a{", &["a{"], &["a"]),
        ("a{b}", &["a{b}"], &["ab"]),
        ("a{ 2 }", &["a{ 2 }"], &["aa"]),
        ("{a}", &["{a}"], &["a"]),
        ("/users/{id}", &["/users/{id}"], &["/users/7"]),
        ("\\b{start}a", &[], &["a"]),
        ("[\\w-.]+", &["a-.b_"], &["a/b", ""]),
        ("[\\w.-]+", &["a-.b_"], &["a/b", ""]),
        ("[a-c-e]+", &["a-e"], &["d"]),
        ("[--/]", &["-", ".", "/"], &["a"]),
        ("[^--/]", &["a"], &["-", ".", "/"]),
        ("[+--]", &["+", ",", "-"], &["."]),
        ("[a&&b]+", &["a&b"], &["c"]),
        ("[a~~b]+", &["a~b"], &["c"]),
        ("[[a]+", &["[a"], &["]"]),
        ("[]a]+", &["]a"], &["["]),
        ("[^]a]", &["b"], &["]", "a"]),
        ("[-a]+", &["-a"], &["b"]),
        ("[a-]+", &["-a"], &["b"]),
        ("[[:alpha:]_]+", &["a_b"], &["1"]),
        ("[[:^digit:]]", &["a"], &["1"]),
        ("[:a]+", &[":a"], &["b"]),
        ("[[:a]+", &["[:a"], &["b"]),
        ("[{}()*+?.]+", &["{}()*+?."], &["a"]),
        ("[<>]", &["<", ">"], &["a"]),
        ("\\<a\\>", &["<a>"], &["a"]),
        ("\\Qa.b*\\E+", &["a.b*", "a.b**"], &["axb"]),
        ("\\Qa[b", &["a[b"], &["ab"]),
        ("\\x41\\x{42}", &["AB"], &["ab"]),
        ("[\\x41-\\x43]", &["B"], &["D"]),
        ("(?i)[--a]", &["k", "K", "-", "_"], &["{"]),
        ("[--a]", &["A"], &["k", "b"]),
        ("(?i:[--a])[--a]", &["kA"], &["kk"]),
        ("(?i)(?-i:[--a])[--a]", &["Ak"], &["kk"]),
        ("(a(?i)[--a])[--a]", &["akA"], &["akk"]),
        ("(?i)[A-z]", &["k", "K", "_"], &["-"]),
        ("(?i)[\\x41-\\x43]", &["b", "B"], &["d"]),
        ("\\-\\/\\.\\_", &["-/._"], &["-/x_"]),
        ("(?P<name>a)(?<other>b)", &["ab"], &["a"]),
        ("a*?b", &["b", "aab"], &["a"]),
        ("(?U)a*", &["aaa"], &["b"]),
        ("(|a)", &["", "a"], &["b"]),
        ("\\Aa\\z", &["a"], &["ab"]),
        ("(é)+", &["éé"], &["e", "É"]),
        // Bytes: measured with Envoy 1.40.
        ("é+", &["é"], &["éé"]),
        (".", &["k"], &["é"]),
        ("..", &["é"], &["e"]),
        ("[é]+", &["é"], &["e"]),
        ("[é]", &[], &["é"]),
        ("\\xc3\\xa9", &["é"], &["e"]),
        ("\\xe9", &[], &["é"]),
        ("(?i)é", &["é"], &["É"]),
        ("\\x{000041}", &["A"], &["a"]),
        ("[^a]{2}", &["é"], &["a", "éé"]),
    ];
    for (pattern, yes, no) in table {
        let regex = full(pattern).unwrap_or_else(|error| panic!("{error}"));
        for text in *yes {
            assert!(is_match(&regex, text), "{pattern} must match {text:?}");
        }
        for text in *no {
            assert!(!is_match(&regex, text), "{pattern} must not match {text:?}");
        }
    }
}

#[test]
fn refuses_what_it_cannot_do() {
    for pattern in [
        "",
        "*",
        "a)(b",
        "(",
        "[",
        "[a",
        "\\",
        "\\pL",
        "\\p{Greek}",
        "\\PN",
        "[\\pL]",
        "\\1",
        "\\012",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?x)a b",
        "(?R)a",
        "(?u)a",
        "\\x{100}",
        "a{1001}",
        "a{1,1001}",
        "[z-a]",
        "[[:wrong:]]",
        "[\\b]",
        "\\u0041",
        "\\x",
        "\\x{110000}",
        "\\xg0",
        "(?i",
    ] {
        assert!(full(pattern).is_err(), "{pattern:?} must be refused");
    }
    assert!(full(&"a".repeat(MAX_PATTERN)).is_ok());
    assert!(full(&"a".repeat(MAX_PATTERN + 1)).is_err());
    assert!(full("((((a{100}){100}){100}){100})").is_err(), "too large a program");
    assert!(full(&format!("{}a{}", "(".repeat(300), ")".repeat(300))).is_err(), "too deep");
}

proptest::proptest! {
    #[test]
    fn never_panics(pattern in "\\PC{0,40}", text in "\\PC{0,20}") {
        if let Ok(regex) = full(&pattern) {
            is_match(&regex, &text);
        }
    }

    #[test]
    fn never_panics_on_what_looks_like_a_pattern(pattern in "[a\\[\\]^\\-\\\\{}(),?:*+|.iswQE<>1x&~é]{0,24}") {
        if let Ok(regex) = full(&pattern) {
            is_match(&regex, "a-1[é");
        }
    }

    #[test]
    fn what_is_quoted_matches_itself(text in "[ -~é]{1,40}") {
        proptest::prop_assume!(!text.contains("\\E"));
        // A backslash at the end would begin `\E`.
        proptest::prop_assume!(!text.ends_with('\\'));
        let regex = full(&format!("\\Q{text}\\E")).unwrap();
        proptest::prop_assert!(is_match(&regex, &text));
    }
}
