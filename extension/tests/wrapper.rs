//! The layer's wrapper script, under every shell that is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

const WRAPPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/layer/causeway-wrapper");

/// Those that images call `sh`: bash in Amazon Linux (where it is POSIX's by that name), dash in Debian, ash in Alpine.
fn shells() -> Vec<&'static str> {
    let there = |shell: &&str| command(shell).args(["-c", ":"]).output().is_ok_and(|output| output.status.success());
    let known = ["sh", "dash", "bash", "bash --posix", "busybox ash", "mksh", "yash"];
    let found: Vec<&str> = known.into_iter().filter(there).collect();
    assert!(!found.is_empty(), "found no shell");
    found
}

fn command(shell: &str) -> Command {
    let mut words = shell.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

fn run(shell: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    command(shell).arg(WRAPPER).args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn environment(output: &Output) -> BTreeMap<String, String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_function_gets_the_proxy_and_the_exceptions() {
    for shell in shells() {
        let variables =
            [("AWS_LAMBDA_RUNTIME_API", "169.254.7.7:9001"), ("NO_PROXY", "db.internal"), ("no_proxy", "a,b")];
        let output = run(shell, &variables, &["env"]);
        assert!(output.status.success(), "{shell}: {output:?}");
        let set = environment(&output);
        assert_eq!(set["http_proxy"], "http://127.0.0.1:15001", "{shell}");
        assert_eq!(set["http_proxy"], set["HTTP_PROXY"]);
        assert_eq!(set["no_proxy"], set["NO_PROXY"]);
        assert!(!set.contains_key("HTTPS_PROXY") && !set.contains_key("https_proxy"));
        let direct: Vec<&str> = set["no_proxy"].split(',').collect();
        for name in
            ["169.254.7.7", "127.0.0.1", "localhost", "amazonaws.com", ".amazonaws.com", "db.internal", "a", "b"]
        {
            assert!(direct.contains(&name), "{shell}: {name} is missing in {direct:?}");
        }
        assert!(direct.iter().all(|name| !name.is_empty()), "{shell}: {direct:?}");
        assert_eq!(set["NODE_USE_ENV_PROXY"], "1", "{shell}");
        let own = run(shell, &[("NODE_USE_ENV_PROXY", "0")], &["printenv", "NODE_USE_ENV_PROXY"]);
        assert_eq!(own.stdout, b"0\n", "{shell}");
    }
}

#[test]
fn no_exception_leads_all_calls_around_the_extension() {
    let left_out = [
        "*",
        "*:80",
        "*.*",
        ".",
        "*.",
        "cluster.local",
        ".cluster.local",
        "*.cluster.local",
        "svc.cluster.local",
        ".svc.cluster.local",
        ".svc.cluster.local:9080",
        "*.svc.cluster.local",
        ".bookinfo.svc.cluster.local",
        "*.bookinfo.svc.cluster.local",
        "svc",
        ".svc",
        "*.svc",
        "*.bookinfo.svc",
        "..",
        "*.:80",
        ".SVC.CLUSTER.LOCAL",
        ".Svc.Cluster.Local.",
        ".svc.cluster.local.",
        ".svc.cluster.local..:9080",
        "*svc.cluster.local",
        "*cluster.local",
        "*svc",
        "Cluster.Local",
        "*.BOOKINFO.SVC",
        "SVC.",
        "0.0.0.0/0",
        "0/0",
        "::/0",
        "[::]/0",
        "0.0.0.0/0:80",
        "bookinfo.svc.cluster.local",
        "bookinfo.SVC",
        "bookinfo.svc.:80",
    ];
    let kept = [
        "db.internal",
        ".corp.local",
        "local",
        "ratings.bookinfo.svc.cluster.local",
        "ratings.bookinfo.svc",
        "a*",
        "fd00::1",
        "db:5432",
        "10.0.0.0/8",
        "10.0.0.0/10",
        "DB.Internal.",
        "svc.example",
        "xsvc",
        "notcluster.local",
        "clusterxlocal",
    ];
    for shell in shells() {
        for item in left_out {
            for list in [item.to_owned(), format!("db.internal,{item}"), format!("db.internal {item} x")] {
                let output = run(shell, &[("no_proxy", &list), ("NO_PROXY", "other.internal")], &["env"]);
                let set = environment(&output);
                let direct: Vec<&str> = set["no_proxy"].split(',').collect();
                assert!(!direct.contains(&item), "{shell}: {list}: {direct:?}");
                assert!(direct.contains(&"other.internal"), "{shell}: {list}: {direct:?}");
                assert_eq!(direct.contains(&"db.internal"), list.starts_with("db"), "{shell}: {list}: {direct:?}");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains(&format!("leaves {item} out of no_proxy")), "{shell}: {list}: {said}");
                let java = &set["JAVA_TOOL_OPTIONS"];
                assert!(
                    !java.to_lowercase().contains("cluster.local") && !java.contains("/0") && !java.contains("|*|"),
                    "{shell}: {list}: {java}"
                );
            }
        }
        for item in kept {
            let output = run(shell, &[("NO_PROXY", &format!("x, {item},"))], &["env"]);
            let direct = environment(&output)["no_proxy"].clone();
            assert_eq!(direct.split(',').filter(|kept| *kept == item).count(), 1, "{shell}: {item}: {direct}");
            assert!(!direct.contains(",,") && !direct.ends_with(','), "{shell}: {direct}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!said.contains("out of no_proxy"), "{shell}: {item}: {said}");
        }
        // No name of a file stands for an item, and blanks mean what they meant.
        let output = run(shell, &[("NO_PROXY", "/*")], &["printenv", "NO_PROXY"]);
        assert!(String::from_utf8_lossy(&output.stdout).contains(",/*"), "{shell}: {output:?}");
    }
}

/// Clients take blanks of every kind off an item: what is left must not be one that was to be left out.
#[test]
fn no_blank_hides_an_exception() {
    let spoilt =
        ["\r", "\u{b}", "\u{c}", "\r\n", "\u{a0}", "\u{85}", "\u{2028}", "\u{3000}", "\u{feff}", "\u{1f}", "\u{7f}"];
    for shell in shells() {
        for (locale, item, blank) in ["C", "C.UTF-8"]
            .into_iter()
            .flat_map(|locale| [".svc.cluster.local", "*", "bookinfo.svc"].map(|item| (locale, item)))
            .flat_map(|(locale, item)| spoilt.map(|blank| (locale, item, blank)))
        {
            for list in [format!("db.internal,{item}{blank}"), format!("{blank}{item}{blank},db.internal")] {
                let output = run(shell, &[("NO_PROXY", &list), ("LC_ALL", locale)], &["printenv", "no_proxy"]);
                let direct = String::from_utf8(output.stdout).unwrap();
                let direct: Vec<&str> = direct.trim_end_matches('\n').split(',').collect();
                assert!(direct.contains(&"db.internal"), "{shell}: {list:?}: {direct:?}");
                assert!(direct.iter().all(|kept| !kept.contains(item)), "{shell}: {list:?}: {direct:?}");
                assert!(direct.iter().all(|kept| kept.is_ascii() && !kept.contains(char::is_control)), "{direct:?}");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains(item) && said.contains("out of no_proxy"), "{shell}: {list:?}: {said}");
            }
        }
        // A list from a file with lines as Windows ends them.
        let output = run(shell, &[("NO_PROXY", "db.internal\r\n10.0.0.0/8\r\n")], &["printenv", "no_proxy"]);
        let direct = String::from_utf8(output.stdout).unwrap();
        assert!(direct.ends_with(",db.internal,10.0.0.0/8\n"), "{shell}: {direct:?}");
    }
}

#[test]
fn port_and_arguments_arrive_unchanged() {
    for shell in shells() {
        let output = run(shell, &[("CAUSEWAY_PROXY_PORT", "15002")], &["printenv", "http_proxy"]);
        assert_eq!(output.stdout, b"http://127.0.0.1:15002\n", "{shell}");
        let output = run(shell, &[], &["printf", "%s|", "a b", "", "*", "$HOME"]);
        assert_eq!(output.stdout, b"a b||*|$HOME|", "{shell}");
        for port in ["80 80", "http", "-1", "0", "65536", "99999999999999999999"] {
            let output = run(shell, &[("CAUSEWAY_PROXY_PORT", port)], &["printenv", "http_proxy"]);
            assert_eq!(output.stdout, b"http://127.0.0.1:15001\n", "{shell}: {port}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("CAUSEWAY_PROXY_PORT") && said.lines().count() == 1, "{shell}: {port}: {said}");
        }
        let output = run(shell, &[("CAUSEWAY_PROXY_PORT", "65535")], &["printenv", "http_proxy"]);
        assert_eq!(output.stdout, b"http://127.0.0.1:65535\n", "{shell}");
        let output = run(shell, &[], &["sh", "-c", "exit 7"]);
        assert_eq!(output.status.code(), Some(7), "{shell}");
    }
}

#[test]
fn another_wrapper_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let next = folder.path().join("next wrapper");
    std::fs::write(&next, "#!/bin/sh\nNEXT=yes\nexport NEXT\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    for shell in shells() {
        let variables = [("CAUSEWAY_NEXT_WRAPPER", next.to_str().unwrap())];
        let set = environment(&run(shell, &variables, &["env"]));
        assert_eq!((set["NEXT"].as_str(), set["http_proxy"].as_str()), ("yes", "http://127.0.0.1:15001"), "{shell}");
        for wrong in ["/not/there", "/tmp"] {
            let output = run(shell, &[("CAUSEWAY_NEXT_WRAPPER", wrong)], &["env"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("CAUSEWAY_NEXT_WRAPPER"), "{shell}: {wrong}: {said}");
        }
        // One that names itself does not go round for ever.
        let output = run(shell, &[("CAUSEWAY_NEXT_WRAPPER", WRAPPER)], &["echo", "done"]);
        assert_eq!(output.stdout, b"done\n", "{shell}");
    }
}

#[test]
fn the_functions_own_variables_stay_as_they_are() {
    let own = [("port", "8080"), ("runtime", "a"), ("direct", "b"), ("kept", "c"), ("next", "d")];
    for shell in shells() {
        let set = environment(&run(shell, &own, &["env"]));
        for (name, value) in own {
            assert_eq!(set[name], value, "{shell}: {name}");
        }
    }
}

#[test]
fn a_proxy_that_is_replaced_is_said_without_its_password() {
    for shell in shells() {
        let output = run(shell, &[("HTTP_PROXY", "http://me:hunter2@proxy:3128")], &["printenv", "HTTP_PROXY"]);
        assert_eq!(output.stdout, b"http://127.0.0.1:15001\n", "{shell}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("http_proxy") && !said.contains("hunter2"), "{shell}: {said}");
    }
}

#[test]
fn java_has_the_same_in_its_own_words() {
    for shell in shells() {
        let variables = [
            ("AWS_LAMBDA_RUNTIME_API", "169.254.7.7:9001"),
            ("NO_PROXY", "db.internal, .x.example,10.0.0.0/8,10.1.0.0/16,10.2.3.0/24,fd00::1,10.4.4.4"),
        ];
        let set = environment(&run(shell, &variables, &["env"]));
        let options: Vec<&str> = set["JAVA_TOOL_OPTIONS"].split(' ').collect();
        let [host, port, hosts] = options[..] else { panic!("{shell}: {options:?}") };
        assert_eq!((host, port), ("-Dhttp.proxyHost=127.0.0.1", "-Dhttp.proxyPort=15001"), "{shell}");
        let hosts: Vec<&str> = hosts.strip_prefix("-Dhttp.nonProxyHosts=").unwrap().split('|').collect();
        for name in [
            "localhost",
            "127.*",
            "[::1]",
            "169.254.7.7",
            "169.254.*",
            "amazonaws.com",
            "*.amazonaws.com",
            "db.internal",
            "*.db.internal",
            "*.x.example",
            "10.*",
            "10.1.*",
            "10.2.3.*",
            "[fd00::1]",
            "10.4.4.4",
        ] {
            assert_eq!(hosts.iter().filter(|host| **host == name).count(), 1, "{shell}: {name} in {hosts:?}");
        }
        assert!(hosts.iter().all(|host| !host.is_empty() && *host != "*"), "{shell}: {hosts:?}");
    }
}

#[test]
fn what_java_cannot_say_is_said_and_its_own_options_come_last() {
    for shell in shells() {
        let variables =
            [("NO_PROXY", "db:5432,10.0.0.0/12,a%b,a*b"), ("JAVA_TOOL_OPTIONS", "-Dhttp.proxyHost=other -Xmx1g")];
        let output = run(shell, &variables, &["printenv", "JAVA_TOOL_OPTIONS"]);
        let options = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(options.ends_with(" -Dhttp.proxyHost=other -Xmx1g\n"), "{shell}: {options}");
        assert!(!options.contains("|db") && !options.contains("|10."), "{shell}: {options}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        for what in ["db:5432", "10.0.0.0/12", "a%b", "a*b", "JAVA_TOOL_OPTIONS"] {
            assert!(said.contains(what), "{shell}: {what}: {said}");
        }
    }
}

#[test]
fn node_loads_the_script_beside_the_wrapper() {
    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("causeway-wrapper");
    std::fs::copy(WRAPPER, &copied).unwrap();
    for shell in shells() {
        let set = environment(&run(shell, &[("NODE_OPTIONS", "--no-warnings")], &["env"]));
        let script = WRAPPER.replace("causeway-wrapper", "causeway-preload.cjs");
        assert_eq!(set["NODE_OPTIONS"], format!("--require {script} --no-warnings"), "{shell}");
        // A script that is not there would stop Node.js.
        let mut command = command(shell);
        command.arg(&copied).args(["printenv", "NODE_OPTIONS"]);
        let output = command.output().unwrap();
        assert!(output.stdout.is_empty(), "{shell}: {output:?}");
    }
}

const TRUST: [&str; 6] = [
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

/// The files that the extension writes.
fn trusted(names: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::write(folder.path().join(name), "certificates").unwrap();
    }
    let ca = folder.path().join("ca.pem").display().to_string();
    (folder, ca)
}

#[test]
fn https_stays_as_it_is_unless_it_is_asked_for() {
    let (_folder, ca) = trusted(&["ca.pem", "ca-bundle.pem", "ca.p12"]);
    for shell in shells() {
        for https in ["", "refuse", "yes"] {
            let output = run(shell, &[("CAUSEWAY_HTTPS", https), ("CAUSEWAY_CA_FILE", &ca)], &["env"]);
            let set = environment(&output);
            for name in TRUST.iter().chain(&["https_proxy", "HTTPS_PROXY"]) {
                assert!(!set.contains_key(*name), "{shell}: {name}");
            }
            assert!(!set["JAVA_TOOL_OPTIONS"].contains("https") && !set["JAVA_TOOL_OPTIONS"].contains("trustStore"));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(said.contains("CAUSEWAY_HTTPS"), https == "yes", "{shell}: {said}");
        }
    }
}

#[test]
fn with_interception_https_goes_to_the_extension_and_is_trusted() {
    let (folder, ca) = trusted(&["ca.pem", "ca-bundle.pem", "ca.p12"]);
    let beside = |end: &str| folder.path().join(end).display().to_string();
    for shell in shells() {
        let asked =
            [("CAUSEWAY_HTTPS", "intercept"), ("CAUSEWAY_CA_FILE", ca.as_str()), ("CAUSEWAY_PROXY_PORT", "15002")];
        let output = run(shell, &asked, &["env"]);
        assert!(output.stderr.is_empty(), "{shell}: {output:?}");
        let set = environment(&output);
        assert_eq!((set["https_proxy"].as_str(), &set["HTTPS_PROXY"]), ("http://127.0.0.1:15002", &set["https_proxy"]));
        assert_eq!(set["NODE_EXTRA_CA_CERTS"], ca, "{shell}");
        for name in &TRUST[1..] {
            assert_eq!(set[*name], beside("ca-bundle.pem"), "{shell}: {name}");
        }
        let java = &set["JAVA_TOOL_OPTIONS"];
        let trust = format!(
            " -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=15002 -Djavax.net.ssl.trustStore={}",
            beside("ca.p12")
        );
        assert!(java.ends_with(&trust), "{shell}: {java}");
        // What the function trusts itself stays, and it is told.
        for name in TRUST {
            let variables = [asked[0], asked[1], (name, "/own.pem"), ("HTTPS_PROXY", "http://me:hunter2@proxy:3128")];
            let output = run(shell, &variables, &["env"]);
            assert_eq!(environment(&output)[name], "/own.pem", "{shell}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(name) && said.contains(&ca) && said.contains("https_proxy"), "{shell}: {said}");
            assert!(!said.contains("hunter2") && said.lines().count() == 2, "{shell}: {said}");
        }
    }
}

#[test]
fn nothing_is_trusted_that_is_not_there() {
    let (_none, nothing) = trusted(&[]);
    let (_ca, alone) = trusted(&["ca.pem"]);
    for shell in shells() {
        for (path, expected) in [(&*nothing, 0), ("ca.pem", 0), ("/tmp/a b.pem", 0), ("/etc/hostname", 0), (&alone, 1)]
        {
            let output = run(shell, &[("CAUSEWAY_HTTPS", "intercept"), ("CAUSEWAY_CA_FILE", path)], &["env"]);
            let set = environment(&output);
            let found = TRUST.iter().filter(|name| set.contains_key(**name)).count();
            assert_eq!(found, expected, "{shell}: {path}: {set:?}");
            assert!(!set["JAVA_TOOL_OPTIONS"].contains("trustStore"), "{shell}: {path}");
            // Calls go to the extension all the same, which says what is wrong.
            assert_eq!(set["https_proxy"], "http://127.0.0.1:15001", "{shell}: {path}");
            assert!(!output.stderr.is_empty(), "{shell}: {path}");
        }
    }
}
