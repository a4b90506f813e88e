//! The toncenter-style HTTP interface, spoken to in plain bytes.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_devnet::Devnet;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::*;

async fn request(address: &str, head: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let json = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(json).unwrap_or(Value::Null))
}

async fn serve() -> (tempfile::TempDir, Devnet, String) {
    let directory = tempfile::tempdir().unwrap();
    let chain = Devnet::open(
        directory.path(),
        config(vec![
            contract(1, 1000 * TON, open_wallet()),
            contract(2, 5 * TON, seven()),
            contract(3, 5 * TON, thrower()),
        ]),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = chain.clone();
    tokio::spawn(async move { server.serve_http(listener).await });
    (directory, chain, address)
}

#[tokio::test]
async fn reads_accounts_and_transactions() {
    let (_directory, chain, server) = serve().await;
    let boc = STANDARD.encode(transfer(1, account(2), TON, 1, 0));
    let (status, answer) = request(
        &server,
        "POST /api/v2/sendBoc",
        &json!({"boc": boc}).to_string(),
    )
    .await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    wait_transactions(&chain, &account(2), 1).await;

    let friendly = account(1).to_text(true, false);
    let (_, answer) = request(
        &server,
        &format!("GET /api/v2/getTransactions?address={friendly}&limit=5"),
        "",
    )
    .await;
    let transaction = &answer["result"][0];
    assert_eq!(transaction["@type"], "raw.transaction");
    assert_eq!(transaction["out_msgs"][0]["value"], TON.to_string());
    assert_eq!(
        transaction["out_msgs"][0]["destination"],
        account(2).to_text(true, false)
    );
    assert_eq!(transaction["compute_exit_code"], 0);
    let lt: u64 = transaction["transaction_id"]["lt"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let (_, answer) = request(
        &server,
        &format!("GET /api/v2/getTransactions?address={friendly}&to_lt={lt}"),
        "",
    )
    .await;
    assert_eq!(answer["result"], json!([]));

    let (_, answer) = request(
        &server,
        &format!("GET /api/v2/getAddressInformation?address={friendly}"),
        "",
    )
    .await;
    assert_eq!(answer["result"]["state"], "active");
    assert_eq!(
        answer["result"]["last_transaction_id"]["lt"],
        lt.to_string()
    );
    let balance = answer["result"]["balance"].clone();
    let (_, answer) = request(
        &server,
        &format!("GET /api/v2/getAddressBalance?address={friendly}"),
        "",
    )
    .await;
    assert_eq!(answer["result"], balance);

    let (_, answer) = request(&server, "GET /api/v2/getMasterchainInfo", "").await;
    assert_eq!(answer["result"]["last"]["workchain"], -1);
    assert_eq!(answer["result"]["last"]["seqno"], chain.head().seqno);
    let (_, answer) = request(&server, "GET /admin/supply", "").await;
    assert_eq!(answer["result"]["conserved"], true);
    assert_eq!(answer["result"]["genesis"], (1010 * TON).to_string());
}

#[tokio::test]
async fn runs_get_methods_by_rest_and_json_rpc() {
    let (_directory, _chain, server) = serve().await;
    let parameters = json!({
        "address": account(2).to_string(),
        "method": "anything",
        "stack": [["num", "0x2a"]],
    });
    let (_, answer) = request(
        &server,
        "POST /api/v2/runGetMethod",
        &parameters.to_string(),
    )
    .await;
    let result = &answer["result"];
    assert_eq!(result["exit_code"], 0);
    assert_eq!(result["stack"][0], json!(["num", "0x2a"]));
    assert_eq!(
        result["stack"].as_array().unwrap().last(),
        Some(&json!(["num", "0x7"]))
    );

    let call = json!({"id": 5, "jsonrpc": "2.0", "method": "runGetMethod", "params": parameters});
    let (_, answer) = request(&server, "POST /api/v2/jsonRPC", &call.to_string()).await;
    assert_eq!((&answer["id"], &answer["ok"]), (&json!(5), &json!(true)));
    assert_eq!(answer["result"]["gas_used"], result["gas_used"]);
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let (_directory, chain, server) = serve().await;
    let refused = STANDARD.encode(transfer(3, account(2), TON, 1, 0));
    let cases = [
        (
            "GET /api/v2/getAddressBalance",
            String::new(),
            422,
            "address",
        ),
        (
            "GET /api/v2/getAddressBalance?address=EQabc",
            String::new(),
            422,
            "address",
        ),
        (
            "GET /api/v2/noSuchMethod",
            String::new(),
            404,
            "noSuchMethod",
        ),
        ("GET /nowhere", String::new(), 404, "path"),
        ("POST /api/v2/sendBoc", "{".to_owned(), 422, "JSON"),
        (
            "POST /api/v2/sendBoc",
            json!({"boc": "!"}).to_string(),
            422,
            "base64",
        ),
        (
            "POST /api/v2/sendBoc",
            json!({"boc": "AAAA"}).to_string(),
            422,
            "BOC",
        ),
        (
            "POST /api/v2/sendBoc",
            json!({"boc": refused}).to_string(),
            500,
            "exit code 42",
        ),
        ("POST /api/v2/jsonRPC", "{}".to_owned(), 422, "method"),
        (
            "POST /admin/advance",
            json!({"seconds": -1}).to_string(),
            422,
            "seconds",
        ),
    ];
    for (head, body, status, word) in cases {
        let (found, answer) = request(&server, head, &body).await;
        assert_eq!(found, status, "{head}: {answer}");
        assert_eq!(answer["ok"], false, "{head}");
        assert_eq!(answer["code"], status, "{head}");
        assert!(
            answer["error"].as_str().unwrap().contains(word),
            "{head}: {answer}"
        );
    }
    let (status, _) = request(&server, "POST /api/v2/sendBoc", &"x".repeat(200_000)).await;
    assert_eq!(status, 413);

    let before = chain.now();
    let (_, answer) = request(
        &server,
        "POST /admin/advance",
        &json!({"seconds": 3600}).to_string(),
    )
    .await;
    assert_eq!(answer["result"]["utime"], before + 3600);
}
