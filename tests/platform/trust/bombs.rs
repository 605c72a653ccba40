//! Malicious files: they are refused with little memory, and the platform continues.

use std::{
    io::{Cursor, Write as _},
    time::Duration,
};

use reqwest::{Body, Method, multipart};
use serde_json::json;
use support::{Client, MASTER_KEY, Process, new_database};
use zip::{ZipWriter, write::SimpleFileOptions};

const MEMORY_MAX_MB: u64 = 256;
/// Memory that a process may keep after an attack: its caches, and what its threads have not given back yet.
const MEMORY_KEPT_MAX_MB: u64 = 128;
/// Argon2id with the crate's defaults takes this much for each password.
const PASSWORD_MB: u64 = 20;

struct Victim {
    process: Process,
}

impl Victim {
    async fn start() -> Self {
        let url = new_database().await;
        let process = Process::start(|command| {
            command.args(["--seal-every-sec", "0", "--registration", "open"]);
            command.env("DATABASE_URL", &url).env("NEWVOICE_MASTER_KEY", MASTER_KEY);
        });
        Self { process: process.await }
    }

    /// Memory in MB: the present value and the peak.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let of = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap() / 1_024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Waits until the process has given back what it took in addition to `before`.
    async fn gives_memory_back(&self, before: u64) {
        let given_back = async {
            while self.memory().0 >= before + MEMORY_KEPT_MAX_MB {
                // A thread returns memory when it allocates the next time: these reads run on different threads.
                for path in ["/campaigns", "/events?limit=1"] {
                    self.process.client.get(path).await.expect(200);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), given_back).await;
        assert!(waited.is_ok(), "{} MB are in use, {before} MB before", self.memory().0);
    }
}

/// A spreadsheet whose only sheet is `sheet`.
fn xlsx(sheet: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let parts = [
        (
            "[Content_Types].xml",
            r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
        ),
        (
            "_rels/.rels",
            r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
        ),
        (
            "xl/workbook.xml",
            r#"<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
        ),
    ];
    for (name, text) in parts {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.start_file("xl/worksheets/sheet1.xml", SimpleFileOptions::default().large_file(true)).unwrap();
    sheet(&mut zip);
    zip.finish().unwrap().into_inner()
}

const SHEET: &str = r#"<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#;
const SHEET_END: &str = "</sheetData></worksheet>";
const HEADER: &str = r#"<row r="1"><c r="A1" t="inlineStr"><is><t>phone_number</t></is></c></row>"#;

/// The expected result for a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// The whole file is refused (422).
    Refused,
    /// The file is read, and all its rows are errors.
    NoGoodRow,
}

fn bombs() -> Vec<(&'static str, Vec<u8>, Fate)> {
    use Fate::{NoGoodRow, Refused};
    let far = |cell: &str, row: &str| {
        let body = format!(r#"{SHEET}{HEADER}<row r="{row}"><c r="{cell}" t="inlineStr"><is><t>x</t></is></c></row>{SHEET_END}"#);
        xlsx(|zip| zip.write_all(body.as_bytes()).unwrap())
    };
    let zeros = vec![b' '; 1 << 20];
    let zip_bomb = xlsx(|zip| {
        zip.write_all(SHEET.as_bytes()).unwrap();
        for _ in 0..1_500 {
            zip.write_all(&zeros).unwrap();
        }
    });
    let many_rows = xlsx(|zip| {
        zip.write_all(format!("{SHEET}{HEADER}").as_bytes()).unwrap();
        let rows: String = (0..1_000).map(|_| "<row><c t=\"inlineStr\"><is><t>+12025550100</t></is></c></row>").collect();
        for _ in 0..2_000 {
            zip.write_all(rows.as_bytes()).unwrap();
        }
        zip.write_all(SHEET_END.as_bytes()).unwrap();
    });
    let mut entries = ZipWriter::new(Cursor::new(Vec::new()));
    for n in 0..60_000 {
        entries.start_file(format!("xl/{n}.xml"), SimpleFileOptions::default()).unwrap();
    }
    let entities = format!(
        "<!DOCTYPE x [<!ENTITY a \"{}\">]>{SHEET}<row><c t=\"inlineStr\"><is><t>&a;</t></is></c></row>{SHEET_END}",
        "a".repeat(1_000)
    );
    // The archive has some kilobytes; with a copy of the text in every cell it would have 16 GB.
    let long_shared = xlsx(|zip| {
        let cells = r#"<c t="s"><v>0</v></c>"#.repeat(16_384);
        zip.write_all(format!("{SHEET}{HEADER}<row>{cells}</row>{SHEET_END}").as_bytes()).unwrap();
        zip.start_file("xl/sharedStrings.xml", SimpleFileOptions::default()).unwrap();
        zip.write_all(format!("<sst><si><t>{}</t></si></sst>", "x".repeat(1_000_000)).as_bytes()).unwrap();
    });
    vec![
        ("a zip bomb", zip_bomb, Refused),
        ("a long text in every cell", long_shared, Refused),
        ("a cell far out", far("XFD1048576", "1048576"), Refused),
        ("a cell beyond every sheet", far("ZZZZZZ99999999", "99999999"), Refused),
        ("two million rows", many_rows, Refused),
        ("many parts", entries.finish().unwrap().into_inner(), Refused),
        ("entities", xlsx(|zip| zip.write_all(entities.as_bytes()).unwrap()), Refused),
        ("a million columns", format!("phone_number{}\n+12025550100\n", ",x".repeat(1_000_000)).into_bytes(), Refused),
        ("one line of forty megabytes", format!("phone_number\n\"{}", "x".repeat(40 << 20)).into_bytes(), Refused),
        ("NUL bytes", b"phone_number\n+1202555\x000100\n\0\0\0\0".to_vec(), NoGoodRow),
        ("nothing but NUL", vec![0; 1 << 20], Refused),
        (
            "UTF-16 that breaks off",
            [&b"\xff\xfe"[..], &"phone_number\n+120255".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(), b"\xd8"].concat(),
            NoGoodRow,
        ),
        ("UTF-32", "phone_number\n".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(), Refused),
        ("no text at all", (0..=255).cycle().take(1 << 20).collect(), Refused),
        ("an old spreadsheet that is none", [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0xff; 4_096]].concat(), Refused),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_made_to_do_harm_are_refused_with_little_memory() {
    let victim = Victim::start().await;
    let client = &victim.process.client;
    let campaign = client.campaign(json!({})).await;
    // A normal upload runs first, so that its memory is part of the baseline.
    client.upload(&campaign, "list.csv", b"phone_number\nx\n".to_vec()).await.expect(200);
    let upload = async |name: &str, body: Body| {
        let form = multipart::Form::new().part("file", multipart::Part::stream(body).file_name(name.to_owned()));
        let request = client.request(Method::POST, &format!("/campaigns/{campaign}/call-list")).multipart(form);
        client.send(request.timeout(Duration::from_secs(300))).await
    };
    let (before, _) = victim.memory();
    for (what, bytes, expected) in bombs() {
        let answer = upload("list.xlsx", Body::from(bytes)).await;
        let fate = match answer.status {
            422 => Some(Fate::Refused),
            200 if answer["created"] == 0 && answer["errors"] != json!([]) => Some(Fate::NoGoodRow),
            _ => None,
        };
        assert_eq!(fate, Some(expected), "{what}: {} {}", answer.status, answer.body);
        let (_, most) = victim.memory();
        assert!(most < before + MEMORY_MAX_MB, "{what} took {} MB", most - before);
    }
    let line = format!("+12025550100,{}\n", "x".repeat(1_000)).repeat(1_000);
    let chunks = (0..500).map(move |_| Ok::<_, std::io::Error>(line.clone()));
    assert_eq!(upload("list.csv", Body::wrap_stream(futures::stream::iter(chunks))).await.status, 413, "half a gigabyte");
    let (_, most) = victim.memory();
    assert!(most < before + MEMORY_MAX_MB, "all of it took {} MB", most - before);
    assert_eq!(client.get(&format!("/campaigns/{campaign}")).await.expect(200)["total_tasks"], 0);
    victim.gives_memory_back(before).await;
}

/// Bodies that are neither call lists nor valid requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_is_made_to_do_harm_is_refused() {
    let victim = Victim::start().await;
    let client = &victim.process.client;
    let post = async |path: &str, body: Vec<u8>| {
        let request = client.request(Method::POST, path).header("content-type", "application/json").body(body);
        client.send(request.timeout(Duration::from_secs(300))).await
    };
    client.get("/campaigns").await.expect(200);
    let (before, _) = victim.memory();
    let many = [b"[".to_vec(), br#"{"":0},"#.repeat(4_700_000), b"0]".to_vec()].concat();
    let nested = [b"[".to_vec(), br#"{"":{"":{"":[]}}},"#.repeat(1_800_000), b"0]".to_vec()].concat();
    for body in [many, nested] {
        for path in ["/price-lists/what-if", "/calls/00000000-0000-0000-0000-000000000000/turns"] {
            assert_eq!(post(path, body.clone()).await.status, 413, "{path}");
            let (_, most) = victim.memory();
            assert!(most < before + MEMORY_MAX_MB, "{path} took {} MB", most - before);
        }
    }
    let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
    for (path, body, status) in [
        ("/skillbases", deep.clone(), 400),
        ("/calls/00000000-0000-0000-0000-000000000000/turns", deep, 400),
        ("/campaigns", br#"{"name": "a\u0000b", "skillbase_id": "00000000-0000-0000-0000-000000000000"}"#.to_vec(), 422),
        ("/campaigns", br#"{"name": 1e999, "skillbase_id": 5}"#.to_vec(), 400),
        (
            "/campaigns",
            br#"{"name": "a", "skillbase_id": "00000000-0000-0000-0000-000000000000", "calls_per_minute": 99999999999999999999}"#.to_vec(),
            422,
        ),
        ("/campaigns", br#"{"name": "a", "company_id": "00000000-0000-0000-0000-000000000000"}"#.to_vec(), 422),
        ("/persons/erase", br#"{"phone_number": "+1 202 555 0100'; drop table events; --"}"#.to_vec(), 422),
        ("/auth/login", format!(r#"{{"email": "{}", "password": "x"}}"#, "a".repeat(10_000)).into_bytes(), 401),
        ("/auth/login", format!(r#"{{"email": "{}", "password": "x"}}"#, "a".repeat(1 << 20)).into_bytes(), 413),
        ("/auth/refresh", br#"{"refresh_token": "\u0000"}"#.to_vec(), 401),
        ("/users", br#"["ada@example.com", "admin"]"#.to_vec(), 422),
        ("/users", br#"{"email": "a@b\u0000", "role": "admin"}"#.to_vec(), 422),
        ("/campaigns", vec![b' '; (256 << 10) + 1], 413),
        ("/skillbases", vec![b' '; (4 << 20) + 1], 413),
        ("/price-lists/what-if", vec![b' '; (1 << 20) + 1], 413),
        ("/calls/00000000-0000-0000-0000-000000000000/turns", vec![b' '; (32 << 20) + 1], 413),
    ] {
        let answer = post(path, body.clone()).await;
        assert_eq!(answer.status, status, "{path} {}: {}", String::from_utf8_lossy(&body[..body.len().min(60)]), answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    client.get("/campaigns").await.expect(200);
    victim.gives_memory_back(before).await;
}

/// Reads all pages. A read that its company's other reads delay for too long is repeated.
async fn read_history(client: &Client, call: &str) {
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/calls/{call}/history{cursor}")).await;
        if page.status == 429 {
            continue;
        }
        match page.expect(200)["next_cursor"].as_str() {
            Some(next) => cursor = format!("?cursor={next}"),
            None => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_histories_take_little_memory_and_give_it_back() {
    let victim = Victim::start().await;
    let client = &victim.process.client;
    let call = client.post("/calls", &json!({"direction": "inbound", "phone_number": "+12025550100"})).await.expect(201).id();
    let long = "x".repeat(50_000);
    for turns in [0..40, 40..80, 80..120, 120..160] {
        let turns: Vec<_> = turns.map(|index| json!({"turn_index": index, "user_text": long, "agent_text": long})).collect();
        client.post(&format!("/calls/{call}/turns"), &json!(turns)).await.expect(201);
    }
    read_history(client, &call).await;
    let (before, _) = victim.memory();
    futures::future::join_all((0..4).map(|_| read_history(client, &call))).await;
    let (_, most) = victim.memory();
    assert!(most < before + MEMORY_MAX_MB, "64 MB of histories took {} MB", most - before);
    victim.gives_memory_back(before).await;
}

/// Thirty passwords at once would take 600 MB: only half as many as the machine has cores are hashed at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_once_hash_few_passwords_at_the_same_time() {
    let victim = Victim::start().await;
    let visitor = Client::new(&victim.process.client.base, None);
    let register = |n: usize| json!({"email": format!("c{n}@example.com"), "password": "correct horse", "company_name": format!("C{n}")});
    let bodies: Vec<_> = (0..30).map(register).collect();
    let at_once = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2) as u64);
    let (before, _) = victim.memory();
    let answers = futures::future::join_all(bodies.iter().map(|body| visitor.post("/auth/register", body))).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    let (_, most) = victim.memory();
    // The rest is for the requests themselves, in a debug build.
    assert!(most < before + at_once * PASSWORD_MB + 100, "30 registrations took {} MB", most - before);
    victim.gives_memory_back(before).await;
}
