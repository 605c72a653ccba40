//! Lists as CSV and XLSX.

use std::{collections::HashMap, io::Cursor, time::Duration};

use calamine::{Data, Reader as _, Xlsx};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use support::{Client, Platform, Proxy, new_database};

const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
/// A part of the statement that reads a page of tasks.
const PAGE: &[&str] = &["($6::bigint is null or position < $6)"];
const LIST: &str = "phone_number,name,city,status,note\n\
    +12025551000,Řehoř,Brno,gold,\"=HYPERLINK(\"\"http://x\"\")\"\n\
    +12025551001,\"O'Neil, Ann\",,silver,\"two\nlines\"\n";

/// The rows of a CSV file: for each, its values by column. The apostrophe before a value is removed, as readers of this CSV do.
fn rows(csv: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let names = reader.headers().unwrap().clone();
    let plain = |cell: &str| cell.strip_prefix('\'').unwrap_or(cell).to_owned();
    let row = |record: csv::StringRecord| names.iter().map(str::to_owned).zip(record.iter().map(plain)).collect();
    reader.records().map(|record| row(record.unwrap())).collect()
}

/// A table as text.
async fn csv(client: &Client, path: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    let answer = client.get(&format!("{path}{separator}format=csv")).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    answer.body.as_str().unwrap().to_owned()
}

async fn sheet(client: &Client, path: &str) -> Vec<Vec<Data>> {
    let request = client.request(reqwest::Method::GET, path).header("accept", XLSX);
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()), (200, XLSX));
    let mut workbook = Xlsx::new(Cursor::new(response.bytes().await.unwrap())).unwrap();
    workbook.worksheet_range("Sheet1").unwrap().rows().map(<[Data]>::to_vec).collect()
}

/// All items of a list, page by page.
async fn items(client: &Client, path: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{path}?limit={limit}{cursor}")).await.expect(200);
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_campaign_s_tasks_are_a_table_with_the_columns_of_their_call_list() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.campaign(json!({})).await;
    admin.upload(&campaign, "list.csv", LIST.into()).await.expect(200);
    let path = format!("/campaigns/{campaign}/tasks");
    let text = csv(&admin, &path).await;
    let header = text.lines().next().unwrap();
    assert!(header.starts_with("id,campaign_id,phone_number,contact_name,status,priority,attempt_count,"), "{header}");
    assert!(header.ends_with(",created_at,updated_at,city,note,\"contact_data.status\""), "{header}");
    assert!(text.contains("\"'=HYPERLINK(\"\"http://x\"\")\"") && text.contains("\"'+12025551000\""), "no cell is a formula: {text}");
    let rows = rows(&text);
    let listed = items(&admin, &path, 200).await;
    assert_eq!(rows.len(), 2);
    for (row, task) in rows.iter().zip(&listed) {
        for name in ["id", "phone_number", "contact_name", "status", "created_at"] {
            assert_eq!(row[name], task[name].as_str().unwrap(), "{name}");
        }
        assert_eq!(row["attempt_count"], task["attempt_count"].to_string());
        assert_eq!(row["outcome"], "", "null is an empty cell");
        for (column, field) in [("city", "city"), ("note", "note"), ("contact_data.status", "status")] {
            assert_eq!(row[column], task["contact_data"][field].as_str().unwrap(), "{column}");
        }
    }
    // The same in a spreadsheet, where texts need no protection.
    let sheet = sheet(&admin, &path).await;
    assert_eq!(sheet[0].iter().map(ToString::to_string).collect::<Vec<_>>().join(","), header.replace('"', ""));
    let number = |row: &[Data]| row[2].clone();
    assert_eq!(
        sheet[1..].iter().map(|row| number(row)).collect::<Vec<_>>(),
        [Data::String("+12025551001".to_owned()), Data::String("+12025551000".to_owned())]
    );
    assert!(matches!(sheet[1][13], Data::DateTime(_)), "{:?}", sheet[1]);

    // What was downloaded can be uploaded again.
    let again = admin.campaign(json!({})).await;
    let uploaded = admin.upload(&again, "tasks.csv", text.into_bytes()).await.expect(200);
    assert_eq!((&uploaded["created"], &uploaded["errors"]), (&json!(2), &json!([])), "{}", uploaded.body);
    let of = |tasks: &[Value]| {
        let mut of: Vec<_> = tasks
            .iter()
            .map(|task| [&task["phone_number"], &task["contact_name"], &task["contact_data"]["note"]].map(Value::to_string))
            .collect();
        of.sort_unstable();
        of
    };
    assert_eq!(of(&items(&admin, &format!("/campaigns/{again}/tasks"), 200).await), of(&listed));
    platform.stop().await;
}

#[tokio::test]
async fn a_table_has_all_rows_and_its_download_is_in_the_audit() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(450, json!({})).await;
    let path = format!("/campaigns/{campaign}/tasks");
    let of_rows = |text: &str| rows(text).iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    let listed: Vec<_> = items(&admin, &path, 200).await.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect();
    let viewer = admin.invited("viewer@example.com", "viewer").await;
    assert_eq!(of_rows(&csv(&viewer, &path).await), listed);
    assert_eq!(of_rows(&csv(&admin, &format!("{path}?status=completed")).await), Vec::<String>::new());
    assert_eq!(sheet(&admin, &path).await.len(), 451);

    // A HEAD request gets the headers, downloads nothing, and holds no share that the next read needs.
    for _ in 0..3 {
        let head = viewer.send(viewer.request(reqwest::Method::HEAD, &format!("{path}?format=xlsx"))).await.expect(200);
        assert_eq!((head.header("content-type"), &head.body), (Some(XLSX), &json!("")));
    }

    let request = viewer.request(reqwest::Method::GET, &format!("{path}?bom=true")).header("accept", "text/csv, */*;q=0.1");
    let answer = viewer.send(request).await.expect(200);
    assert!(answer.body.as_str().unwrap().starts_with("\u{feff}id,"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"tasks.csv\""));
    assert!(answer.position() > 0);

    // A compressed answer is as complete: gzip (RFC 1952) ends with the length of the text.
    let request = viewer.request(reqwest::Method::GET, &format!("{path}?format=csv")).header("accept-encoding", "gzip");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let compressed = response.bytes().await.unwrap();
    let length = u32::from_le_bytes(compressed[compressed.len() - 4..].try_into().unwrap());
    assert_eq!(length as usize, csv(&viewer, &path).await.len());

    let wrong =
        ["format=pdf", "format=", "format=csv&limit=5", "format=xlsx&cursor=7", "bom=true", "format=csv&bom=x", "format=xlsx&bom=true"];
    for query in wrong {
        admin.get(&format!("{path}?{query}")).await.problem(400);
    }
    admin.get(&format!("{path}?format=csv&status=lost")).await.problem(400);
    admin.get(&format!("/campaigns/{}/tasks?format=csv", uuid::Uuid::new_v4())).await.problem(404);
    let other = platform.admin().await;
    other.get(&format!("{path}?format=csv")).await.problem(404);

    let audit = admin.get(&format!("/audit?path={path}")).await.expect(200);
    let entries: Vec<_> = audit["items"].as_array().unwrap().iter().filter(|entry| entry["status"] == 200).collect();
    let actors: Vec<_> = entries.iter().map(|entry| entry["actor"]["id"].as_str().unwrap()).collect();
    assert!(entries.iter().all(|entry| entry["action"] == "GET /campaigns/{id}/tasks"), "{}", audit.body);
    let (viewers, admins) = ([0, 1, 2, 5], [3, 4]);
    assert_eq!(actors.len(), 6, "{actors:?}");
    assert!(viewers.iter().all(|at| actors[*at] == actors[0]) && admins.iter().all(|at| actors[*at] != actors[0]), "{actors:?}");
    platform.stop().await;
}

/// Calls with different numbers of turns, one of them without any.
#[tokio::test]
async fn calls_and_turns_of_a_campaign_are_lists_and_tables() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.campaign(json!({})).await;
    let mut turns_of = HashMap::new();
    for (n, turns) in [3, 0, 7, 1, 25].into_iter().enumerate() {
        let start = json!({"direction": "inbound", "phone_number": format!("+1202555010{n}"), "campaign_id": campaign});
        let call = admin.post("/calls", &start).await.expect(201).id();
        let turn =
            |i: usize| json!({"turn_index": i, "user_text": format!("=said {n}.{i}"), "latency_llm_ms": 480.25, "llm_input_tokens": i});
        if turns > 0 {
            admin.post(&format!("/calls/{call}/turns"), &(0..turns).map(turn).collect()).await.expect(201);
        }
        admin.post(&format!("/calls/{call}/end"), &json!({"outcome": "success", "duration_sec": 12.5})).await.expect(200);
        turns_of.insert(call, turns);
    }
    admin.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550199"})).await.expect(201);

    let calls = items(&admin, "/calls", 2).await;
    assert_eq!(calls.len(), 6);
    for call in &calls {
        assert_eq!(*call, admin.get(&format!("/calls/{}", call["id"].as_str().unwrap())).await.body, "as the call itself");
    }
    let of_campaign = format!("?campaign_id={campaign}");
    let ids: Vec<_> = calls[1..].iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect();
    for path in ["/calls", "/analytics/calls"] {
        let rows = rows(&csv(&admin, &format!("{path}{of_campaign}")).await);
        assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), ids, "{path}");
        assert!(rows.iter().all(|row| row["duration_sec"] == "12.5" && row["outcome"] == "success"));
    }
    let rows_of = rows(&csv(&admin, "/analytics/calls").await);
    let counts: Vec<_> = rows_of[1..].iter().map(|row| row["turn_count"].clone()).collect();
    assert_eq!(counts, ids.iter().map(|id| turns_of[id].to_string()).collect::<Vec<_>>());
    assert_eq!(rows_of[1]["latency_llm_p50"], "480.25");

    // The turns of the campaign are those of its calls, whatever the size of the pages.
    let mut expected = Vec::new();
    for id in &ids {
        expected.extend(items(&admin, &format!("/analytics/calls/{id}/turns"), 200).await);
    }
    assert_eq!(expected.len(), 36);
    let path = format!("/campaigns/{campaign}/turns");
    for limit in [1, 3, 7, 35, 36, 200] {
        assert_eq!(items(&admin, &path, limit).await, expected, "{limit}");
    }
    let rows = rows(&csv(&admin, &path).await);
    let said = |row: &HashMap<String, String>| (row["call_id"].clone(), row["user_text"].clone(), row["llm_input_tokens"].clone());
    let wanted = |turn: &Value| {
        let text = |field: &str| turn[field].as_str().unwrap().to_owned();
        (text("call_id"), text("user_text"), turn["llm_input_tokens"].to_string())
    };
    assert_eq!(rows.iter().map(said).collect::<Vec<_>>(), expected.iter().map(wanted).collect::<Vec<_>>());
    for wrong in ["cursor=x", "cursor=1.2", "cursor=0.00000000000000000000000000000000.x"] {
        admin.get(&format!("{path}?{wrong}")).await.problem(400);
    }
    admin.get(&format!("/campaigns/{}/turns", uuid::Uuid::new_v4())).await.problem(404);

    // An erased person's words are in no table.
    admin.post("/persons/erase", &json!({"phone_number": "+12025550104"})).await.expect(200);
    let text = csv(&admin, &path).await;
    assert!(!text.contains("said 4.") && text.contains("said 3.0") && text.contains("\"erased\""), "{text}");
    platform.stop().await;
}

/// A part of a list must not look like the whole: the connection ends without the end of the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_cannot_go_on_is_no_complete_answer() {
    let (proxy, url) = Proxy::before(&new_database().await).await;
    let platform = Platform::start_on(&url).await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(450, json!({})).await;
    let path = format!("/campaigns/{campaign}/tasks");
    assert_eq!(rows(&csv(&admin, &path).await).len(), 450);
    let owner = &platform.app().owner;
    let rename = |from: &str, to: &str| sqlx::query(AssertSqlSafe(format!("alter table call_tasks rename column {from} to {to}")));

    for format in ["csv", "xlsx"] {
        let (response, go_on) = begun(&proxy, &admin, &format!("{path}?format={format}")).await;
        rename("priority", "renamed").execute(owner).await.unwrap();
        go_on.send(()).unwrap();
        assert!(response.bytes().await.is_err(), "{format}");
        rename("renamed", "priority").execute(owner).await.unwrap();
    }
    assert_eq!(rows(&csv(&admin, &path).await).len(), 450, "the next download is complete");

    // The process stops, and the download with it.
    let (response, go_on) = begun(&proxy, &admin, &format!("{path}?format=csv")).await;
    let stopping = tokio::spawn(platform.stop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    go_on.send(()).unwrap();
    assert!(response.bytes().await.is_err(), "a part is no complete answer");
    stopping.await.unwrap();
}

/// A download whose first page waits until something is sent to the channel.
async fn begun(proxy: &Proxy, client: &Client, path: &str) -> (reqwest::Response, tokio::sync::oneshot::Sender<()>) {
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let later = proxy.clone();
    // The first statement checks the request, the next one is for the first page of the body.
    proxy.hold_at(PAGE, async move { later.hold_at(PAGE, async move { wait.await.unwrap() }) });
    let response = client.request(reqwest::Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    (response, go_on)
}
