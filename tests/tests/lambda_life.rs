//! The extension in the life of a real function: Python under the Lambda emulator, beside another extension, before a
//! mesh of real Envoys and the real issuer. Environments are frozen and thawed, fail, and end.

use std::time::Duration;

use e2e::function::Function;
use e2e::mesh::Mesh;
use e2e::process::PATIENCE;
use e2e::recorder::Recorder;
use e2e::relay::Relay;
use e2e::world::{self, World};
use e2e::{layer, ports, tool};
use serde_json::{Value, json};

type Outcome = Result<(), String>;

/// After it, a request that could not be sent again takes no connection from before.
const NAP: Duration = Duration::from_millis(2_200);

const ROLE: &str = "bookinfo-reviews";

/// What the emulator says where an extension has not ended within its 2 s, which a busy machine may use up.
const KILLED: &str = "did not exit after deadline";

/// How many environments are ended, at the most, to see that extensions end by themselves.
const ENDS: usize = 5;

/// The most invocations until an environment that has failed answers again.
const TURNS: usize = 20;

/// The pause after the first of them; twice as long after each that follows, up to a second or so.
const BETWEEN_TURNS: Duration = Duration::from_millis(20);

/// Invocations of a managed instance.
const AT_A_TIME: usize = 3;

/// A function, and all that it talks to.
struct Scene {
    function: Function,
    app: Recorder,
    /// Between the extension and the mesh's gateway.
    wire: Relay,
    /// Between the extension and the issuer.
    issuer: Relay,
    world: World,
    _mesh: Mesh,
}

/// What is in the function's sandbox beside the extension.
#[derive(Clone, Copy, PartialEq)]
enum Sandbox {
    /// AWS' runtime for Python.
    Plain,
    /// The same, and another extension.
    Observed,
    /// A runtime of the function's own.
    OwnRuntime,
    /// The same on a managed instance, and another extension.
    Managed,
}

impl Scene {
    async fn start(sandbox: Sandbox, more: &[(&str, &str)]) -> Result<Option<Scene>, String> {
        if !world::available() {
            return Ok(None);
        }
        let world = World::start().await?;
        let app = Recorder::start().await?;
        let mesh = Mesh::before(&world, "bookinfo-ratings", app.address).await?;
        let wire = Relay::start(mesh.eastwest.address).await?;
        let issuer = Relay::start(world.door).await?;
        let port = ports::free().map_err(|error| error.to_string())?;
        let mut environment = world.extension_environment(ROLE, port, wire.address)?;
        environment.retain(|(name, _)| !["CAUSEWAY_SVID_URL", "CAUSEWAY_BUNDLE"].contains(&name.as_str()));
        environment.push(("CAUSEWAY_SVID_URL".to_owned(), format!("http://{}", issuer.address)));
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let folder = world.folder.path();
        let (layer, task) = (layer::extension(folder)?, layer::function(folder)?);
        layer::add_bundle(&layer, &world.bundle)?;
        let python = tool("python3").display().to_string();
        match sandbox {
            Sandbox::Observed => layer::add_observer(&layer, &python)?,
            // The tools may be where its user cannot go.
            Sandbox::Managed => layer::add_observer(&layer, "python3")?,
            Sandbox::Plain | Sandbox::OwnRuntime => {}
        }
        let function = match sandbox {
            Sandbox::Managed => Function::managed("calls", &task, &layer, AT_A_TIME, &environment).await?,
            Sandbox::OwnRuntime => {
                let command = task.join("bootstrap").display().to_string();
                Function::start("calls", &[&command], &task, Some(&layer), &environment).await?
            }
            Sandbox::Plain | Sandbox::Observed => {
                // The runtime does not see SnapStart, of which the emulator knows nothing: only the extension does.
                let mut command = vec!["/opt/causeway-wrapper", "env", "-u", "AWS_LAMBDA_INITIALIZATION_TYPE", &python];
                command.extend(["-m", "awslambdaric", "app.handler"]);
                Function::start("calls", &command, &task, Some(&layer), &environment).await?
            }
        };
        Ok(Some(Scene { function, app, wire, issuer, world, _mesh: mesh }))
    }

    /// One invocation that makes these calls.
    async fn calls(&self, calls: Value) -> Result<Value, String> {
        self.function.invoke(&json!({ "calls": calls }), &[]).await
    }

    /// Invokes it until a call is answered: the emulator itself may need a turn or two until it has let go of an
    /// environment that has failed, and sends away what comes meanwhile. A function that runs again has its answer.
    async fn answered(&self) -> Result<(), String> {
        let answered = async {
            let mut said = Vec::new();
            for turn in 0..TURNS {
                match self.calls(get("/ratings/0")).await {
                    Ok(answer) if statuses(&answer) == [Some(200)] => return Ok(()),
                    Ok(answer) if !statuses(&answer).is_empty() => {
                        return Err(format!("turn {turn}: the function runs, and its call failed: {answer}"));
                    }
                    Ok(answer) => said.push(answer.to_string()),
                    Err(error) => said.push(error),
                }
                tokio::time::sleep(BETWEEN_TURNS * (1 << turn.min(6))).await;
            }
            Err(format!("found no answer of 200 in {TURNS} turns: {said:?}"))
        };
        let in_time = tokio::time::timeout(2 * PATIENCE, answered).await;
        let answered = in_time.unwrap_or_else(|_| Err("found no answer of 200 in time".to_owned()));
        answered.map_err(|error| format!("{error}\n{}", self.said()))
    }

    /// The same on a managed instance, whose emulator sends an invocation away while the runtime does not ask for one.
    async fn calls_when_idle(&self, calls: Value) -> Result<Value, String> {
        let idle = async {
            loop {
                let answer = self.calls(calls.clone()).await?;
                if answer["errorType"] != "Runtime.Unavailable" {
                    return Ok(answer);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, idle).await;
        in_time.unwrap_or_else(|_| Err(format!("the runtime never asks for an invocation\n{}", self.said())))
    }

    fn said(&self) -> String {
        self.function.process().lines().join("\n")
    }

    /// Ends the environment, and looks for credentials in all that it has said.
    async fn end(self) -> Result<String, String> {
        assert_eq!(self.world.credential_in_logs(&[self.function.process()]), None);
        Ok(self.function.stopped().await?.join("\n"))
    }
}

fn get(path: &str) -> Value {
    json!([{ "path": path }])
}

/// The status of each answer.
fn statuses(answer: &Value) -> Vec<Option<u64>> {
    answer["answers"].as_array().into_iter().flatten().map(|answer| answer["status"].as_u64()).collect()
}

/// Whether extensions end by themselves, and say `expected`: more than half of up to [`ENDS`] environments do, each of which
/// `one` begins and ends. A single one may be killed since the machine was busy; one that never ends is killed each time.
#[allow(clippy::print_stdout, reason = "how often it was, for who reads the output of a test that passes")]
async fn most_end(expected: &[&str], one: impl AsyncFn() -> Result<Option<String>, String>) -> Outcome {
    let (mut ended, mut killed) = (0, 0);
    while ended <= ENDS / 2 {
        let Some(said) = one().await? else { return Ok(()) };
        match expected.iter().find(|expected| !said.contains(**expected)) {
            None => ended += 1,
            Some(missing) if !said.contains(KILLED) => return Err(format!("{missing} is not said\n{said}")),
            Some(missing) => {
                killed += 1;
                if killed > ENDS / 2 {
                    return Err(format!(
                        "{killed} of {} were killed before {missing} was said\n{said}",
                        ended + killed
                    ));
                }
            }
        }
    }
    println!("ended by themselves: {ended}; killed: {killed}");
    Ok(())
}

/// Stopped and continued as a whole, again and again. Meanwhile connections end, or die without a sign. No call fails.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_in_freezes_between_invocations() -> Outcome {
    let Some(scene) = Scene::start(Sandbox::Plain, &[]).await? else { return Ok(()) };
    // POST is what the mesh's policy forbids: the answer is the sidecar's own, so that it has arrived, once.
    let calls = json!([{"path": "/ratings/0"}, {"path": "/ratings/0", "method": "POST", "body": "x"}]);
    for cycle in 0..5 {
        let answer = scene.calls(calls.clone()).await?;
        assert_eq!(statuses(&answer), [Some(200), Some(403)], "cycle {cycle}: {answer}\n{}", scene.said());
        assert_eq!(answer["answers"][1]["reason"], Value::Null, "cycle {cycle}: {answer}");
        let sandbox = scene.function.sandbox()?;
        sandbox.freeze().await?;
        match cycle % 3 {
            0 => scene.wire.cut().await?,
            1 => scene.wire.spoil().await?,
            _ => {}
        }
        tokio::time::sleep(NAP).await;
        sandbox.thaw().await?;
    }
    let answer = scene.calls(calls).await?;
    assert_eq!(statuses(&answer), [Some(200), Some(403)], "{answer}\n{}", scene.said());
    assert_eq!(scene.app.seen().len(), 6, "each once");
    scene.end().await.map(|_| ())
}

/// Frozen while a call is under way, as with an application that does not wait for what it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_that_a_freeze_interrupts() -> Outcome {
    let Some(scene) = Scene::start(Sandbox::Plain, &[]).await? else { return Ok(()) };
    for (round, cut) in [false, true, false, true].into_iter().enumerate() {
        // So that the call to come is not the first on its connection.
        assert_eq!(statuses(&scene.calls(get("/ratings/0")).await?), [Some(200)], "{}", scene.said());
        scene.app.hold(true);
        let before = scene.app.seen().len();
        let interrupted = async {
            scene.app.have_come(before + 1).await?;
            let sandbox = scene.function.sandbox()?;
            sandbox.freeze().await?;
            if cut {
                scene.wire.cut().await?;
            }
            // The answer, if it can, comes while nobody is awake to read it.
            scene.app.hold(false);
            tokio::time::sleep(NAP).await;
            sandbox.thaw().await
        };
        let (answer, interrupted) = tokio::join!(scene.calls(get("/ratings/1")), interrupted);
        interrupted?;
        let answer = answer?;
        assert_eq!(statuses(&answer), [Some(200)], "round {round}: {answer}\n{}", scene.said());
        assert_eq!(scene.app.seen().len(), before + 1 + usize::from(cut), "sent again where it has to be");
    }
    scene.end().await.map(|_| ())
}

/// Another extension that uses every part of both APIs, and another wrapper.
#[tokio::test(flavor = "multi_thread")]
async fn another_extension_lives_beside_it() -> Outcome {
    let more = [("CAUSEWAY_NEXT_WRAPPER", "/opt/observer-wrapper")];
    most_end(&[r#""event": "SHUTDOWN""#, r#""event":"end""#], async || {
        let Some(scene) = Scene::start(Sandbox::Observed, &more).await? else { return Ok(None) };
        for _ in 0..3 {
            let answer = scene.calls(get("/ratings/0")).await?;
            assert_eq!((statuses(&answer), &answer["observed"]), (vec![Some(200)], &json!("yes")), "{}", scene.said());
        }
        let said = scene.end().await?;
        for expected in [r#""registered": 200"#, r#""subscribed": 202"#, r#""event": "INVOKE""#] {
            assert!(said.contains(expected), "{expected}\n{said}");
        }
        Ok(Some(said))
    })
    .await
}

/// The other extension gives up in its start, or at an invocation, and the function crashes: Lambda begins again with
/// everything, and so does the extension, on the same port.
#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_is_begun_again_has_its_extension() -> Outcome {
    for fault in ["init", "exit", "crash"] {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let failed = folder.path().join("failed").display().to_string();
        let more = [("TEST_OBSERVER", fault), ("TEST_OBSERVER_FAILED", failed.as_str())];
        let Some(scene) = Scene::start(Sandbox::Observed, &more).await? else { return Ok(()) };
        let event = json!({"crash": fault == "crash", "calls": get("/ratings/0")});
        // Lambda says which it was; the emulator may say nothing.
        let failure = scene.function.invoke(&event, &[]).await;
        assert!(failure.as_ref().map_or(true, |failure| failure["errorType"].is_string()), "{fault}: {failure:?}");
        scene.answered().await.map_err(|error| format!("{fault}: {error}"))?;
        let starts = scene.said().matches(r#""event":"start""#).count();
        assert!(starts >= 2, "{fault}: {starts}\n{}", scene.said());
        assert!(!scene.said().contains("not_listening"), "{fault}\n{}", scene.said());
        scene.end().await?;
    }
    Ok(())
}

/// Calls hang at a service, and the environment ends.
#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_at_shutdown_under_load() -> Outcome {
    most_end(&[r#""event":"end""#], async || {
        let Some(scene) = Scene::start(Sandbox::Plain, &[]).await? else { return Ok(None) };
        scene.app.hold(true);
        let calls: Vec<Value> = (0..20).map(|n| json!({"path": format!("/ratings/{n}")})).collect();
        scene.function.invoke(&json!({"calls": calls, "wait": false}), &[]).await?;
        scene.app.have_come(20).await?;
        scene.end().await.map(Some)
    })
    .await
}

/// The function calls out while it is imported, and the issuer has not answered yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_init_waits_for_the_identity() -> Outcome {
    let Some(scene) = Scene::start(Sandbox::Plain, &[("TEST_CALL_AT_INIT", "yes")]).await? else { return Ok(()) };
    scene.issuer.hold(true);
    let released = async {
        scene.function.process().line(|line| line.contains("calls: in INIT")).await?;
        assert!(scene.app.seen().is_empty());
        scene.issuer.hold(false);
        Ok::<_, String>(())
    };
    let (answer, released) = tokio::join!(scene.calls(get("/ratings/0")), released);
    released?;
    let answer = answer?;
    assert_eq!(answer["init"]["status"], 200, "{answer}\n{}", scene.said());
    assert_eq!(statuses(&answer), [Some(200)], "{answer}");
    scene.end().await.map(|_| ())
}

/// What there is before the first invocation is in the snapshot, so there is nothing: no key, no token, no connection.
#[tokio::test(flavor = "multi_thread")]
async fn snap_start_begins_with_the_first_invocation() -> Outcome {
    let more = [("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"), ("TEST_CALL_AT_INIT", "yes")];
    let Some(scene) = Scene::start(Sandbox::Plain, &more).await? else { return Ok(()) };
    let answer = scene.calls(get("/ratings/0")).await?;
    let init = &answer["init"];
    assert_eq!((&init["status"], &init["reason"]), (&json!(503), &json!("identity_unavailable")), "{answer}");
    assert!(init["body"].as_str().is_some_and(|body| body.contains("SnapStart")), "{answer}");
    assert_eq!(statuses(&answer), [Some(200)], "{answer}\n{}", scene.said());
    assert_eq!(scene.app.seen().len(), 1);
    scene.end().await.map(|_| ())
}

/// The application's TLS ends at the extension, under an authority that is another one with each start.
#[tokio::test(flavor = "multi_thread")]
async fn https_of_a_function_ends_at_the_extension_beside_it() -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ca = folder.path().join("ca.pem");
    let path = ca.display().to_string();
    let url = "https://ratings.bookinfo.svc.cluster.local:9080";
    let more = [("CAUSEWAY_HTTPS", "intercept"), ("CAUSEWAY_CA_FILE", path.as_str()), ("TEST_URL", url)];
    let Some(scene) = Scene::start(Sandbox::Plain, &more).await? else { return Ok(()) };
    let mut authorities = Vec::new();
    for crash in [false, true] {
        if crash {
            // Lambda says that it crashed; the emulator may say nothing.
            let _ = scene.function.invoke(&json!({"crash": true, "calls": []}), &[]).await;
        }
        scene.answered().await.map_err(|error| format!("crash {crash}: {error}"))?;
        authorities.push(std::fs::read_to_string(&ca).map_err(|error| error.to_string())?);
    }
    assert!(authorities.iter().all(|authority| authority.contains("BEGIN CERTIFICATE")), "{authorities:?}");
    assert_ne!(authorities[0], authorities[1]);
    // To the service it is a call like others, with an identity and the scheme that the application spoke.
    let seen = scene.app.seen();
    assert!(seen.len() >= 2, "{seen:?}");
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("https"), "{seen:?}");
    scene.end().await.map(|_| ())
}

/// On OS-only runtimes Lambda runs no wrapper: the function's own start does, or the function calls a port.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_with_a_runtime_of_its_own_needs_no_wrapper_setting() -> Outcome {
    let port = ports::free().map_err(|error| error.to_string())?;
    let (url, listener) =
        (format!("http://127.0.0.1:{port}"), format!("{port}=ratings.bookinfo.svc.cluster.local:9080"));
    let by_port = [("TEST_URL", url.as_str()), ("CAUSEWAY_LISTENERS", listener.as_str())];
    for more in [&[][..], &by_port[..]] {
        let Some(scene) = Scene::start(Sandbox::OwnRuntime, more).await? else { return Ok(()) };
        let answer = scene.calls(get("/ratings/0")).await?;
        assert_eq!(statuses(&answer), [Some(200)], "{more:?}: {answer}\n{}", scene.said());
        scene.end().await?;
    }
    Ok(())
}

/// A managed instance takes several invocations at a time, tells extensions of its end only, and has the Telemetry API.
#[tokio::test(flavor = "multi_thread")]
async fn a_managed_instance_has_many_invocations_at_a_time() -> Outcome {
    most_end(&[r#""event":"end""#], managed).await
}

async fn managed() -> Result<Option<String>, String> {
    let Some(scene) = Scene::start(Sandbox::Managed, &[]).await? else { return Ok(None) };
    scene.app.hold(true);
    let together = async {
        scene.app.have_come(AT_A_TIME).await?;
        scene.app.hold(false);
        Ok::<_, String>(())
    };
    let (a, b, c, together) = tokio::join!(
        scene.calls_when_idle(get("/ratings/a")),
        scene.calls_when_idle(get("/ratings/b")),
        scene.calls_when_idle(get("/ratings/c")),
        together
    );
    together.map_err(|error| format!("{error}\n{a:?}\n{}", scene.said()))?;
    for answer in [a?, b?, c?] {
        assert_eq!(statuses(&answer), [Some(200)], "{answer}\n{}", scene.said());
    }
    // Records of telemetry come a while after what they tell of.
    for expected in [r#""registered": 200"#, r#""subscribed": 200"#, r#""telemetry": "platform.start""#] {
        scene.function.process().line(|line| line.contains(expected)).await?;
    }
    scene.end().await.map(Some)
}

/// One trace from whoever invokes, through function, extension and sidecar, to the application.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_invocation_to_the_service() -> Outcome {
    let Some(scene) = Scene::start(Sandbox::Plain, &[]).await? else { return Ok(()) };
    let invocation = "5759e988bd862e3fe1be46a994272793";
    let x_ray = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let (own, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    // A call may be faster than its invocation's event: in the second one the extension has heard of this trace.
    for round in 0..2 {
        let calls = json!([
            {"path": format!("/ratings/none{round}")},
            {"path": format!("/ratings/w3c{round}"), "headers": {"traceparent": format!("00-{own}-{parent}-01")}},
            {"path": format!("/ratings/b3{round}"),
                "headers": {"x-b3-traceid": own, "x-b3-spanid": parent, "x-b3-sampled": "1"}},
            {"path": format!("/ratings/xray{round}"), "headers": {"x-amzn-trace-id": x_ray}},
        ]);
        let answer = scene.function.invoke(&json!({ "calls": calls }), &[("x-amzn-trace-id", x_ray)]).await?;
        assert_eq!(statuses(&answer), [Some(200); 4], "{answer}");
    }
    let seen = scene.app.seen();
    let at = |path: &str| seen.iter().find(|seen| seen.path.ends_with(path)).ok_or(format!("{path} did not come"));
    for (path, trace) in [("/none1", invocation), ("/w3c1", own), ("/b31", own), ("/xray1", invocation)] {
        let line = scene.function.process().line(|line| line.contains(r#""event":"egress""#) && line.contains(path));
        let line: Value = serde_json::from_str(&line.await?).map_err(|error| error.to_string())?;
        assert_eq!(line["trace_id"], trace, "{path}");
        let span = line["span_id"].as_str().ok_or("no span")?;
        assert_ne!(span, parent);
        let came = at(path)?;
        let header = |name: &str| came.header(name).unwrap_or_default().to_owned();
        match path {
            "/b31" => assert_eq!((header("x-b3-traceid"), header("x-b3-parentspanid")), (own.into(), parent.into())),
            "/xray1" => assert!(header("x-amzn-trace-id").contains(&format!("Parent={span}")), "{came:?}"),
            _ => assert_eq!(header("traceparent"), format!("00-{trace}-{span}-01"), "{came:?}"),
        }
    }
    scene.end().await.map(|_| ())
}
