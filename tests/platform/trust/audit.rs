//! The audit as a list.

use serde_json::{Value, json};
use support::Platform;
use uuid::Uuid;

#[tokio::test]
async fn the_audit_is_paged_without_gaps_and_each_filter_finds_its_entries() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let viewer = admin.post("/api-keys", &json!({"name": "viewer", "role": "viewer"})).await.expect(201);
    let viewer_client = admin.with_token(viewer["key"].as_str().unwrap());
    admin.skillbase().await;
    let request_id = Uuid::now_v7().to_string();
    let refused = viewer_client.request(reqwest::Method::POST, "/campaigns").header("x-request-id", &request_id).json(&json!({}));
    viewer_client.send(refused).await.problem(403);
    admin.skillbase().await;

    let items = async |query: &str| admin.get(&format!("/audit?{query}")).await.expect(200)["items"].as_array().unwrap().clone();
    let entries = items("limit=100").await;
    assert!(entries.len() >= 5 && entries.is_sorted_by_key(|entry| std::cmp::Reverse(entry["at"].as_str().unwrap().to_owned())));
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/audit?limit=2{cursor}")).await.expect(200);
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, entries);

    let refusal = entries.iter().find(|entry| entry["request_id"] == request_id.as_str()).unwrap();
    let actor = viewer["id"].as_str().unwrap();
    let path = "path=/campaigns".to_owned();
    for filter in [format!("actor_id={actor}"), format!("request_id={request_id}"), "refused=true".to_owned(), path] {
        assert_eq!(items(&filter).await, std::slice::from_ref(refusal), "{filter}");
    }
    let done: Vec<Value> = entries.iter().filter(|entry| *entry != refusal).cloned().collect();
    assert_eq!(items("refused=false").await, done);
    let at = refusal["at"].as_str().unwrap().replace('+', "%2B");
    let (since, before) = (items(&format!("from={at}")).await, items(&format!("to={at}")).await);
    assert_eq!(since.last(), Some(refusal));
    assert_eq!([since, before].concat(), entries);
    platform.stop().await;
}
