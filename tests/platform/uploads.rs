use reqwest::multipart::Form;
use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};
use support::{Answer, Client, Platform};

const CSV: &[u8] = include_bytes!("../fixtures/call-list.csv");
const XLS: &[u8] = include_bytes!("../fixtures/call-list.xls");
/// Rows of the fixture that are not contacts: four because of their number, one because of its priority.
const BAD_ROWS: [&str; 5] = ["Row 12:", "Row 42:", "Row 62:", "Row 92:", "Row 122:"];

/// The same list as in users' spreadsheets: numbers as numbers, texts as shared strings.
fn xlsx() -> Vec<u8> {
    let text = std::str::from_utf8(CSV).unwrap().trim_start_matches('\u{feff}');
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    for (row, line) in (0..).zip(text.lines()) {
        for (column, cell) in (0..).zip(line.split(',')) {
            match cell.parse::<f64>() {
                Ok(number) if !cell.starts_with('+') => sheet.write_number(row, column, number).unwrap(),
                _ if cell.is_empty() => continue,
                _ => sheet.write_string(row, column, cell).unwrap(),
            };
        }
    }
    book.save_to_buffer().unwrap()
}

#[tokio::test]
async fn the_same_call_list_gives_the_same_in_every_format_and_only_once() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let mut seen = Vec::new();
    for (name, bytes) in [("list.csv", CSV.to_vec()), ("list.xlsx", xlsx()), ("list.xls", XLS.to_vec())] {
        let id = admin.campaign(json!({})).await;
        let answer = admin.upload(&id, name, bytes.clone()).await.expect(200);
        assert_eq!((&answer["total"], &answer["created"]), (&json!(150), &json!(145)), "{name}: {}", answer["errors"]);
        let errors: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned()).collect();
        assert!(errors.len() == 5 && errors.iter().zip(BAD_ROWS).all(|(error, row)| error.starts_with(row)), "{errors:?}");
        assert_eq!(admin.get(&format!("/campaigns/{id}")).await["total_tasks"], 145);
        let again = admin.upload(&id, name, bytes).await.expect(200);
        assert_eq!((&again["total"], &again["created"]), (&json!(150), &json!(0)));
        assert_eq!(admin.get(&format!("/campaigns/{id}")).await["total_tasks"], 145);
        let tasks = admin.get(&format!("/campaigns/{id}/tasks?limit=200")).await;
        let of = |task: &serde_json::Value| {
            [&task["phone_number"], &task["contact_name"], &task["contact_data"], &task["priority"]].map(Clone::clone)
        };
        seen.push((errors, tasks["items"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()));
        assert_eq!(admin.get(&format!("/campaigns/{id}/imports")).await["items"].as_array().unwrap().len(), 2);
    }
    assert_eq!(seen[0], seen[1], "csv and xlsx");
    assert_eq!(seen[0], seen[2], "csv and xls");
    platform.stop().await;
}

async fn send_form(client: &Client, campaign: &str, fields: &[(&'static str, &str)]) -> Answer {
    let form = fields.iter().fold(Form::new(), |form, (name, value)| form.text(*name, (*value).to_owned()));
    client.send(client.request(reqwest::Method::POST, &format!("/campaigns/{campaign}/call-list")).multipart(form)).await
}

/// A dry run reports what the upload then does, and stores nothing: no task, no person, no import, no entry in the audit.
#[tokio::test]
async fn a_dry_run_says_what_an_upload_would_do() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let path = format!("/campaigns/{id}");
    admin.upload(&id, "first.csv", b"phone_number\n+12025550100\n".to_vec()).await.expect(200);
    let owner = &platform.app().owner;
    let counts = async || {
        let counts = "select (select count(*) from events), (select count(*) from person_keys), (select count(*) from call_tasks)";
        sqlx::query_as::<_, (i64, i64, i64)>(counts).fetch_one(owner).await.unwrap()
    };
    admin.get(&format!("{path}/tasks")).await.expect(200);
    let before = counts().await;
    let list = "Mobile;name;priority\n2025550100;Ada;\n2025550101;Ben;5\n(202) 555-0101;Ben;\nn/a;Cyd;\n2025550102;Dan;high\n";
    let fields = [("phone_column", "mobile"), ("file", list)];
    let dry = send_form(&admin, &id, &[&fields[..], &[("dry_run", "true")]].concat()).await.expect(200);
    assert_eq!(counts().await, before);
    assert_eq!((&dry["import_id"], &dry["dry_run"]), (&Value::Null, &json!(true)));
    assert_eq!((&dry["total"], &dry["created"]), (&json!(5), &json!(1)));
    let not_a_number = "not a phone number";
    assert_eq!(
        dry["row_errors"],
        json!([
            {"row": 2, "column": null, "code": "row_in_campaign", "value": null, "message": "phone number is in the campaign already"},
            {"row": 4, "column": null, "code": "row_repeated", "value": null, "message": "phone number repeats row 3"},
            {"row": 5, "column": "Mobile", "code": "phone_unparsable", "value": "n/a", "message": not_a_number},
            {"row": 6, "column": "priority", "code": "row_priority_not_whole", "value": "high", "message": "priority is not a whole number"},
        ])
    );
    let texts: Vec<_> =
        dry["row_errors"].as_array().unwrap().iter().map(|e| format!("Row {}: {}", e["row"], e["message"].as_str().unwrap())).collect();
    assert_eq!(dry["errors"], json!(texts));

    let done = send_form(&admin, &id, &fields).await.expect(200);
    assert!(done["import_id"].is_string() && done["dry_run"] == false);
    for field in ["total", "created", "errors", "row_errors", "notes", "encoding", "delimiter"] {
        assert_eq!(done[field], dry[field], "{field}");
    }
    assert_eq!(admin.get(&path).await["total_tasks"], 2);
    let uploads = admin.get(&format!("/audit?path={path}/call-list")).await.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(uploads, 2, "the dry run is not among the changes");
    platform.stop().await;
}

/// The fields of a form belong to the request that a key stands for.
#[tokio::test]
async fn a_dry_run_and_an_upload_are_different_requests_under_one_key() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let keyed = |dry_run: &str| {
        let form = Form::new().text("file", "phone_number\n+12025550100\n").text("dry_run", dry_run.to_owned());
        let request = admin.request(reqwest::Method::POST, &format!("/campaigns/{id}/call-list"));
        admin.send(request.header("idempotency-key", "k").multipart(form))
    };
    keyed("true").await.expect(200);
    keyed("false").await.problem(422);
    assert_eq!(keyed("true").await.expect(200).header("idempotent-replayed"), Some("true"));
    assert_eq!(admin.get(&format!("/campaigns/{id}")).await["total_tasks"], 0);
    platform.stop().await;
}

/// Generated clients of Python send `True`.
#[tokio::test]
async fn a_column_that_seems_to_be_the_name_is_noted() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let form = Form::new().text("file", "phone_number,Nombre,Prio\n+12025550100,Ada,2\n").text("dry_run", "True");
    let answer = admin.send(admin.request(reqwest::Method::POST, &format!("/campaigns/{id}/call-list")).multipart(form)).await.expect(200);
    assert_eq!((&answer["dry_run"], &answer["created"]), (&json!(true), &json!(1)));
    let notes = answer["notes"].to_string();
    assert!(notes.contains("rename it to contact_name") && notes.contains("rename it to priority"), "{notes}");
    platform.stop().await;
}

#[tokio::test]
async fn what_is_no_call_list_changes_nothing() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    for bytes in [&b""[..], b"name,city\nA,B\n", b"\x89PNG\r\n\x1a\n\0\0", b"PK\x03\x04broken", b"%PDF-1.7 \x01\x02"] {
        assert_eq!(admin.upload(&id, "list.csv", bytes.to_vec()).await.problem(422).paths(), ["file"]);
    }
    admin.upload(&id, "list.csv", vec![b'x'; 5 << 20]).await.problem(413);
    let rows = format!("phone_number\n{}", "+12025550100\n".repeat(5_001));
    admin.upload(&id, "list.csv", rows.into_bytes()).await.problem(422);
    let good = "phone_number\n+12025550100\n";
    for (fields, status, named) in [
        (&[("dry_run", "true")][..], 422, "file"),
        (&[("file", good), ("note", "x")], 400, "note"),
        (&[("file", good), ("file", good)], 422, "file"),
        (&[("file", good), ("dry_run", "yes")], 422, "dry_run"),
        (&[("file", good), ("dry_run", "")], 422, "dry_run"),
        (&[("file", good), ("phone_column", " ")], 422, "phone_column"),
        (&[("file", good), ("phone_column", "a\0b")], 422, "phone_column"),
        (&[("file", good), ("phone_column", "a"), ("phone_column", "b")], 422, "phone_column"),
        (
            &[("phone_column", "Phone"), ("file", good)],
            422,
            "looks like it: leave out the field phone_column; the columns are: phone_number",
        ),
    ] {
        let problem = send_form(&admin, &id, fields).await.problem(status);
        assert!(problem.body.to_string().contains(named), "{fields:?}: {}", problem.body);
    }
    admin.post(&format!("/campaigns/{id}/call-list"), &json!({})).await.problem(415);
    assert_eq!(admin.get(&format!("/campaigns/{id}")).await["total_tasks"], 0);
    assert_eq!(admin.get(&format!("/campaigns/{id}/imports")).await["items"], json!([]));
    platform.stop().await;
}

#[tokio::test]
async fn an_upload_repeated_under_its_key_answers_the_same() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let upload = || {
        let part = reqwest::multipart::Part::bytes(CSV).file_name("list.csv");
        let form = reqwest::multipart::Form::new().part("file", part);
        admin.send(
            admin
                .request(reqwest::Method::POST, &format!("/campaigns/{id}/call-list"))
                .header("idempotency-key", "upload-1")
                .multipart(form),
        )
    };
    let first = upload().await.expect(200);
    let second = upload().await.expect(200);
    assert_eq!(first.body, second.body, "the boundary does not count");
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    platform.stop().await;
}

/// Simulates a crash between effect and answer: the tasks exist, the answer does not.
#[tokio::test]
async fn an_upload_whose_answer_was_lost_counts_its_own_tasks_as_created() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let upload = || {
        let form = reqwest::multipart::Form::new().part("file", reqwest::multipart::Part::bytes(CSV).file_name("list.csv"));
        admin.send(
            admin.request(reqwest::Method::POST, &format!("/campaigns/{id}/call-list")).header("idempotency-key", "k").multipart(form),
        )
    };
    let first = upload().await.expect(200);
    let app = platform.app();
    sqlx::query("update idempotency_keys set status = null, sealed_answer = null, locked_until = '-infinity'")
        .execute(&app.owner)
        .await
        .unwrap();
    let second = upload().await.expect(200);
    assert_eq!(first.body, second.body);
    assert_eq!(admin.get(&format!("/campaigns/{id}")).await["total_tasks"], 145);
    platform.stop().await;
}

#[tokio::test]
async fn the_answer_reports_what_was_read() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let czech = b"sep=;\nphone_number;name;name 2;name 2\n+12025550100;Ji\xf8\xed;\x8a\x9dastn\xfd;x\n\
                  +12025550101;#N/A;;\n+12025550101;#N/A;;\n";
    let answer = admin.upload(&id, "list.csv", czech.to_vec()).await.expect(200);
    let errors = json!(["Row 4: phone number repeats row 3"]);
    assert_eq!((&answer["total"], &answer["created"], &answer["errors"]), (&json!(3), &json!(2), &errors), "{}", answer.body);
    assert_eq!(
        [&answer["sheet"], &answer["encoding"], &answer["delimiter"], &answer["hidden_rows"]],
        [&json!(null), &json!("windows-1250"), &json!(";"), &json!(0)]
    );
    assert_eq!(
        answer["notes"],
        json!([
            "Column 4: another column has the name \"name 2\"; the values are stored as \"name 2 (2)\"",
            "Row 3: the name \"#N/A\" is read as no name"
        ])
    );
    let sheets = include_bytes!("../fixtures/sheets.xls");
    let answer = admin.upload(&id, "list.xls", sheets.to_vec()).await.expect(200);
    assert_eq!(
        [&answer["sheet"], &answer["encoding"], &answer["delimiter"], &answer["hidden_rows"], &answer["total"], &answer["notes"]],
        [&json!("List"), &json!(null), &json!(null), &json!(2), &json!(4), &json!([])]
    );
    platform.stop().await;
}

#[tokio::test]
async fn a_stray_quote_changes_nothing() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let rows: String = (0..100).map(|i| format!("+120255501{i:02},x\n")).collect();
    let list = format!("phone_number,note\n+12025550200,x\n+12025550201,\"oops\n{rows}");
    let refused = admin.upload(&id, "list.csv", list.into_bytes()).await.problem(422);
    assert!(refused.body.to_string().contains("row 3: a quote opens a cell"), "{}", refused.body);
    assert_eq!(admin.get(&format!("/campaigns/{id}")).await["total_tasks"], 0);
    platform.stop().await;
}

/// An upload whose body does not arrive holds a place; the third upload waits for a place, with and without a key.
#[tokio::test]
async fn two_uploads_of_a_company_are_received_at_once_and_its_others_wait() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.campaign(json!({})).await;
    let held: Vec<_> = ["a", "b"]
        .map(|key| {
            let (chunks, body) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
            let part = reqwest::multipart::Part::stream(reqwest::Body::wrap_stream(body)).file_name("list.csv");
            let form = reqwest::multipart::Form::new().part("file", part);
            let request = admin.request(reqwest::Method::POST, &format!("/campaigns/{id}/call-list")).multipart(form);
            let request = if key == "a" { request.header("idempotency-key", key) } else { request };
            (chunks, tokio::spawn(request.send()))
        })
        .into();
    let third = || admin.upload(&id, "list.csv", b"phone_number\n+12025550100\n".to_vec());
    let mut waits = false;
    for _ in 0..20 {
        // The first two may not have arrived yet.
        waits = waits || tokio::time::timeout(std::time::Duration::from_secs(1), third()).await.is_err();
    }
    assert!(waits, "two uploads of a company are received at once");
    // Another company does not wait for them.
    let other = platform.admin().await;
    let campaign = other.campaign(json!({})).await;
    other.upload(&campaign, "list.csv", b"phone_number\n+12025550100\n".to_vec()).await.expect(200);
    for (chunks, sent) in held {
        chunks.unbounded_send(Ok(b"phone_number\n+12025550101\n".to_vec())).unwrap();
        drop(chunks);
        assert_eq!(sent.await.unwrap().unwrap().status(), 200);
    }
    third().await.expect(200);
    platform.stop().await;
}
