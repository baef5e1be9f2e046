//! What a table is, said once and asked of every kind: in memory, in a file, and in DynamoDB as moto plays it; and what
//! DynamoDB's faults become.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::moto::Moto;
use e2e::world::{aws, create_table};
use e2e::{ports, tier, tool};
use platform::aws::AwsConfig;
use platform::dynamo_table::DynamoTable;
use platform::store::{Embedded, StoreError};
use platform::table::{Only, Page, Record, Table, Written};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const NOW: u64 = 1_893_456_000;
const ABSENT: Only = Only::Absent { now: NOW };

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn record(json: &str, version: u64, expires_at: Option<u64>) -> Option<Record> {
    Some(Record { json: json.to_owned(), version, expires_at })
}

/// Everything that a table promises. The table is empty, and is empty afterwards.
async fn keeps_its_promises(table: &dyn Table, what: &str) -> Outcome {
    // Nothing.
    assert_eq!(table.get("a").await?, None, "{what}");
    assert_eq!(table.page(None, 10).await?, Page::default(), "{what}");
    assert_eq!(table.delete("a", 1).await?, Written::Conflict, "{what}");
    assert_eq!(table.put("a", "{}", None, Only::Version(1)).await?, Written::Conflict, "{what}");
    assert_eq!(table.get("a").await?, None, "{what}: a conflict writes nothing");

    // Made once.
    assert_eq!(table.put("a", r#"{"n":1}"#, None, ABSENT).await?, Written::Version(1), "{what}");
    assert_eq!(table.put("a", r#"{"n":2}"#, None, ABSENT).await?, Written::Conflict, "{what}");
    assert_eq!(table.get("a").await?, record(r#"{"n":1}"#, 1, None), "{what}");

    // Changed by whoever names the version.
    assert_eq!(table.put("a", r#"{"n":3}"#, Some(NOW + 5), Only::Version(1)).await?, Written::Version(2), "{what}");
    assert_eq!(table.put("a", r#"{"n":4}"#, None, Only::Version(1)).await?, Written::Conflict, "{what}");
    assert_eq!(table.get("a").await?, record(r#"{"n":3}"#, 2, Some(NOW + 5)), "{what}");

    // Expired is absent to who makes it, and the count goes on, so that an old reader cannot write over it.
    assert_eq!(table.put("a", "{}", None, Only::Absent { now: NOW + 4 }).await?, Written::Conflict, "{what}");
    assert_eq!(table.put("a", "{}", None, Only::Absent { now: NOW + 5 }).await?, Written::Version(3), "{what}");
    assert_eq!(table.put("a", "{}", None, Only::Version(2)).await?, Written::Conflict, "{what}");
    assert_eq!(table.get("a").await?, record("{}", 3, None), "{what}: the end is gone too");

    // Deleted by whoever names the version.
    assert_eq!(table.delete("a", 2).await?, Written::Conflict, "{what}");
    assert_eq!(table.delete("a", 3).await?, Written::Version(3), "{what}");
    assert_eq!(table.delete("a", 3).await?, Written::Conflict, "{what}");

    // Pages, whole and each record once, whatever the ids are.
    let ids = ["", "a#b", "é", "x y", "\"quoted\"", "0", "z".repeat(1_000).as_str()].map(str::to_owned);
    let ids: Vec<String> = ids.into_iter().filter(|id| !id.is_empty()).collect();
    for id in &ids {
        assert_eq!(table.put(id, r#"{"é":"\n"}"#, None, ABSENT).await?, Written::Version(1), "{what} {id}");
    }
    for limit in [1, 2, 5, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = table.page(after.as_deref(), limit).await?;
            assert!(page.records.len() <= limit, "{what}");
            seen.extend(page.records.into_iter().map(|(id, record)| (id, record.json)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut expected: Vec<(String, String)> =
            ids.iter().map(|id| (id.clone(), r#"{"é":"\n"}"#.to_owned())).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{what} {limit}");
    }
    for id in &ids {
        table.delete(id, 1).await?;
    }
    assert_eq!(table.page(None, 10).await?.records, Vec::new(), "{what}");
    Ok(())
}

/// Of many who write at once, one wins each time.
async fn has_one_winner(table: Arc<dyn Table>, what: &str) -> Outcome {
    for (only, version) in [(ABSENT, 1), (Only::Version(1), 2)] {
        let writers = (0..8).map(|writer| {
            let table = table.clone();
            tokio::spawn(async move { table.put("race", &format!("{{\"n\":{writer}}}"), None, only).await })
        });
        let mut won = 0;
        for writer in writers.collect::<Vec<_>>() {
            won += usize::from(writer.await?? == Written::Version(version));
        }
        assert_eq!(won, 1, "{what} {only:?}");
    }
    table.delete("race", 2).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_keeps_its_promises() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut tables: Vec<(&str, Arc<dyn Table>)> = vec![
        ("memory", Embedded::in_memory().table("t")),
        ("file", Embedded::at(&folder.path().join("store.json"))?.table("t")),
    ];
    let mut moto = None;
    if tier::available(&[&tool("moto_server")]) {
        let started = Moto::start().await?;
        create_table(&started, "t").await?;
        tables.push(("DynamoDB", Arc::new(DynamoTable::new("t", aws(&started)))));
        moto = Some(started);
    }
    for (what, table) in tables {
        keeps_its_promises(table.as_ref(), what).await?;
        has_one_winner(table, what).await?;
    }
    drop(moto);
    Ok(())
}

/// What the played DynamoDB does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Answers so.
    Say(u16, &'static str),
    /// Takes the request and says nothing.
    Hang,
    /// Takes the request, does it, and the answer is lost.
    LoseAnswer,
    /// Says that the condition does not hold, and shows the record that the last lost request has written.
    ShowWritten,
}

/// A DynamoDB that does one act after the other, and the last one again and again.
async fn played(
    acts: &'static [Act],
) -> Result<(AwsConfig, Arc<AtomicUsize>), Box<dyn std::error::Error + Send + Sync>> {
    let listener = TcpListener::bind(ports::loopback(0)).await?;
    let address = listener.local_addr()?;
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        let mut write = String::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(body) = request(&mut stream).await else { continue };
            let place = counted.fetch_add(1, Ordering::Relaxed);
            let Some(act) = acts.get(place).or(acts.last()) else { continue };
            match act {
                Act::Say(status, text) => answer(&mut stream, *status, text).await,
                Act::Hang => {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(30)).await;
                        drop(stream);
                    });
                }
                Act::LoseAnswer => {
                    let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                    body["ExpressionAttributeValues"][":w"]["S"].as_str().unwrap_or_default().clone_into(&mut write);
                }
                Act::ShowWritten => {
                    let item = serde_json::json!({"id": {"S": "a"}, "record": {"S": "{}"}, "version": {"N": "1"},
                        "write": {"S": write}});
                    let text = serde_json::json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                        "message": "The conditional request failed", "Item": item});
                    answer(&mut stream, 400, &text.to_string()).await;
                }
            }
        }
    });
    let mut aws = aws_to(&format!("http://{address}"));
    aws.secretsmanager_endpoint = None;
    Ok((aws, requests))
}

fn aws_to(url: &str) -> AwsConfig {
    AwsConfig {
        region: "eu-central-1".to_owned(),
        credentials: platform::aws::Credentials {
            access_key_id: "AKIDLOCAL".to_owned(),
            secret_access_key: identity::Secret::new("local-secret".to_owned()),
            session_token: None,
        }
        .into(),
        dynamodb_endpoint: Some(url.to_owned()),
        secretsmanager_endpoint: None,
    }
}

/// The body of one request.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(chunk.get(..read)?);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
        let length: usize = length?.trim().parse().ok()?;
        if body.len() >= length {
            return Some(body.to_owned());
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16, body: &str) {
    let text = format!(
        "HTTP/1.1 {status} OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // A client that has gone away does not want it.
    let _ = stream.write_all(text.as_bytes()).await;
}

const THROTTLED: Act = Act::Say(
    400,
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#,
);
const WRITTEN: Act = Act::Say(200, r#"{"Attributes":{"version":{"N":"1"}}}"#);

/// What all four operations come to.
async fn all(table: &DynamoTable) -> [Result<(), StoreError>; 4] {
    [
        table.get("a").await.map(drop),
        table.put("a", "{}", None, ABSENT).await.map(drop),
        table.delete("a", 1).await.map(drop),
        table.page(None, 10).await.map(drop),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_out_is_an_error_and_never_an_answer() -> Outcome {
    const OUT: [(&[Act], &str); 4] = [
        (&[THROTTLED], "slow down"),
        (&[Act::Say(500, r#"{"__type":"InternalServerError"}"#)], "InternalServerError"),
        (&[Act::Say(200, "no JSON")], ""),
        (&[Act::Hang], "no answer in time"),
    ];
    for (acts, why) in OUT {
        let (aws, requests) = played(acts).await?;
        for outcome in all(&DynamoTable::new("t", aws)).await {
            match outcome {
                Err(StoreError::Unavailable { store, why: said }) => {
                    assert_eq!(store, "t");
                    assert!(said.contains(why), "{said}");
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        assert!(requests.load(Ordering::Relaxed) <= 8, "no more than one more attempt");
    }
    // Nobody there at all.
    let nobody = aws_to(&format!("http://{}", ports::loopback(ports::free()?)));
    for outcome in all(&DynamoTable::new("t", nobody)).await {
        assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_attempt_is_made_good() -> Outcome {
    for first in [THROTTLED, Act::LoseAnswer] {
        let acts: &'static [Act] = match first {
            Act::LoseAnswer => &[Act::LoseAnswer, WRITTEN],
            _ => &[THROTTLED, WRITTEN],
        };
        let (aws, requests) = played(acts).await?;
        assert_eq!(DynamoTable::new("t", aws).put("a", "{}", None, ABSENT).await?, Written::Version(1));
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_knows_its_own_result() -> Outcome {
    let (aws, _) = played(&[Act::LoseAnswer, Act::ShowWritten]).await?;
    assert_eq!(DynamoTable::new("t", aws).put("a", "{}", None, ABSENT).await?, Written::Version(1));
    // Another's write is a conflict, though it has written the same.
    let (aws, _) = played(&[Act::ShowWritten]).await?;
    assert_eq!(DynamoTable::new("t", aws).put("a", "{}", None, ABSENT).await?, Written::Conflict);
    Ok(())
}

#[tokio::test]
async fn a_record_of_another_form_is_named() -> Outcome {
    for item in [
        r#"{"Item":{"id":{"S":"a"}}}"#,
        r#"{"Item":{"id":{"S":"a"},"record":{"N":"1"}}}"#,
        r#"{"Item":{"id":{"S":"a"},"record":{"S":"{}"},"version":{"S":"x"}}}"#,
        r#"{"Item":{"id":{"S":"a"},"record":{"S":"{}"},"expires_at":{"N":"1.5"}}}"#,
    ] {
        let acts: &'static [Act] = Box::leak(Box::new([Act::Say(200, item)]));
        let (aws, _) = played(acts).await?;
        let found = DynamoTable::new("t", aws).get("a").await;
        assert!(matches!(&found, Err(StoreError::Malformed { id, .. }) if id == "a"), "{found:?}");
    }
    Ok(())
}
