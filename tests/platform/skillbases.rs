use domain::skillbase::{Skillbase, SkillbaseCommand};
use serde_json::{Value, json};
use support::{Answer, Platform, Proxy, new_database, skillbase_config};

#[tokio::test]
async fn a_skillbase_is_created_changed_and_deleted_and_its_versions_stay() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let body = json!({"name": "Bot", "slug": "bot", "config": skillbase_config()});
    let created = admin.post("/skillbases", &body).await.expect(201);
    assert_eq!((&created["version"], &created["config"]), (&json!(1), &skillbase_config()));
    admin.post("/skillbases", &body).await.problem(409);
    let path = format!("/skillbases/{}", created.id());
    assert_eq!(admin.put(&path, &json!({"name": "Bot"})).await.expect(200)["version"], 1, "nothing changed");
    let mut config = skillbase_config();
    config["llm"]["temperature"] = json!(1);
    let changed = admin.put(&path, &json!({"config": config, "slug": "bot-2"})).await.expect(200);
    assert_eq!((&changed["version"], &changed["slug"]), (&json!(2), &json!("bot-2")));
    // The old slug is free after the change.
    admin.post("/skillbases", &body).await.expect(201);
    assert_eq!(admin.get("/skillbases?slug=bot-2").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get("/skillbases?name=BO").await["items"].as_array().unwrap().len(), 2);
    for wildcard in ["%25", "_", "B%25"] {
        assert!(admin.get(&format!("/skillbases?name={wildcard}")).await["items"].as_array().unwrap().is_empty(), "no name has {wildcard}");
    }
    let versions = admin.get(&format!("{path}/versions")).await.expect(200);
    assert_eq!(versions["items"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(admin.get(&format!("{path}/versions/1")).await.expect(200)["config"], skillbase_config());
    admin.get(&format!("{path}/versions/3")).await.problem(404);
    admin.delete(&path).await.expect(204);
    admin.get(&path).await.problem(404);
    admin.get(&format!("{path}/versions/2")).await.expect(200);
    platform.stop().await;
}

#[tokio::test]
async fn an_agent_gets_everything_for_a_call_in_one_read() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let id = admin.skillbase().await;
    let for_call = admin.get(&format!("/skillbases/{id}/for-call")).await.expect(200);
    assert_eq!(for_call["version"], 1);
    assert!(for_call["prompt"].as_str().unwrap().contains("No medical advice"));
    assert_eq!(for_call["scenario"]["initial_state"], "greeting");
    assert_eq!(for_call["tools"][0]["function"]["name"], "book_appointment");
    assert_eq!(admin.get(&format!("/skillbases/{id}/prompt")).await["prompt"], for_call["prompt"]);
    assert_eq!(admin.get(&format!("/skillbases/{id}/scenario")).await.body, for_call["scenario"]);
    assert_eq!(admin.get(&format!("/skillbases/{id}/tools")).await.body, for_call["tools"]);
    platform.stop().await;
}

#[tokio::test]
async fn a_skillbase_has_a_description_and_can_be_inactive_or_published() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let body = json!({"name": "Bot", "slug": "bot", "config": skillbase_config()});
    let created = admin.post("/skillbases", &body).await.expect(201);
    let notes = |of: &Answer| (of["description"].clone(), of["is_active"].clone(), of["is_published"].clone());
    assert_eq!(notes(&created), (Value::Null, json!(true), json!(false)));
    let path = format!("/skillbases/{}", created.id());
    let changed = admin.put(&path, &json!({"description": "For tests", "is_active": false, "is_published": true})).await.expect(200);
    assert_eq!((notes(&changed), &changed["version"]), ((json!("For tests"), json!(false), json!(true)), &json!(2)));
    assert_eq!(notes(&admin.get(&path).await.expect(200)), notes(&changed));
    for (filter, found) in
        [("is_active=false", 1), ("is_active=true", 0), ("is_published=true", 1), ("is_published=true&is_active=true", 0)]
    {
        assert_eq!(admin.get(&format!("/skillbases?{filter}")).await.expect(200)["items"].as_array().unwrap().len(), found, "{filter}");
    }
    admin.get("/skillbases?is_active=perhaps").await.problem(400);
    let cleared = admin.put(&path, &json!({"description": null})).await.expect(200);
    assert_eq!(notes(&cleared), (Value::Null, json!(false), json!(true)));
    admin.put(&path, &json!({"description": "x".repeat(2_001)})).await.problem(422);
    platform.stop().await;
}

#[tokio::test]
async fn a_campaign_starts_with_an_active_skillbase_only() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let (pause, resume) = (format!("/campaigns/{campaign}/pause"), format!("/campaigns/{campaign}/resume"));
    admin.act(&pause).await.expect(200);
    let skillbase = admin.get(&format!("/campaigns/{campaign}")).await["skillbase_id"].as_str().unwrap().to_owned();
    admin.put(&format!("/skillbases/{skillbase}"), &json!({"is_active": false})).await.expect(200);
    assert_eq!(admin.act(&resume).await.problem(409)["code"], "skillbase_inactive");
    admin.act(&format!("/campaigns/{campaign}/clone")).await.expect(201);
    admin.put(&format!("/skillbases/{skillbase}"), &json!({"is_active": true})).await.expect(200);
    admin.act(&resume).await.expect(200);
    platform.stop().await;
}

/// A configuration with the names of NEW-VOICE is stored with the canonical ones.
#[tokio::test]
async fn a_configuration_of_new_voice_is_read() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let mut config = skillbase_config();
    config["flow"] = json!({"type": "graph",
        "states": [{"id": "greeting", "name": "Greeting", "prompt": "Greet warmly"}, {"id": "booking", "name": "Booking"}],
        "transitions": [{"from_state": "greeting", "to_state": "booking", "condition": "user_responded"}]});
    config["tools"] = json!([{"name": "calendar", "config": {"api_url": "https://api.example.com"}, "enabled": true}]);
    config["voice"]["stt_provider"] = json!("assemblyai");
    config["llm"] = json!({"provider": "ollama", "model": "llama3", "temperature": 0.7, "max_tokens": 1024});
    let body = json!({"name": "Bot", "slug": "bot", "config": config});
    let created = admin.post("/skillbases", &body).await.expect(201);
    assert_eq!(
        created["config"]["flow"],
        json!({"type": "graph",
            "states": [{"name": "greeting", "label": "Greeting", "prompt": "Greet warmly"}, {"name": "booking", "label": "Booking"}],
            "transitions": [{"from": "greeting", "to": "booking", "condition": "user_responded"}]})
    );
    let path = format!("/skillbases/{}", created.id());
    for config in [&config, &created["config"]] {
        assert_eq!(admin.put(&path, &json!({"config": config})).await.expect(200)["version"], 1, "it is the same configuration");
    }
    let for_call = admin.get(&format!("{path}/for-call")).await.expect(200);
    assert!(for_call["prompt"].as_str().unwrap().contains("- greeting (Greeting): Greet warmly"));
    assert_eq!(for_call["scenario"]["states"][0]["transitions"][0]["to"], "booking");
    let tools: Vec<_> = for_call["tools"].as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(tools, ["check_availability", "book_appointment"]);
    for (pointer, value, path) in [
        ("/flow/states/0/label", json!("Hello"), "config.flow.states[0].label"),
        ("/flow/transitions/0/from", json!("booking"), "config.flow.transitions[0]"),
        ("/flow/states/1/id", json!("greeting"), "config.flow.states[1].name"),
        ("/flow/states/1/id", json!(7), "config.flow.states[1].id"),
        ("/flow/states/1/prompt", json!({}), "config.flow.states[1].prompt"),
        ("/llm/max_tokens", json!(0), "config.llm.max_tokens"),
        ("/llm/max_tokens", json!(-1), "config.llm.max_tokens"),
        ("/tools/0/config", json!("none"), "config.tools[0].config"),
    ] {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut wrong = config.clone();
        wrong.pointer_mut(parent).unwrap()[key] = value;
        let answer = admin.post("/skillbases", &json!({"name": "Bot", "slug": "bot-2", "config": wrong})).await.problem(422);
        assert_eq!(answer.paths()[0], path);
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_list_tells_its_total_where_it_is_known() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(3, json!({})).await;
    admin.skillbase().await;
    for (list, total) in [
        ("/skillbases?limit=1", json!(2)),
        ("/skillbases?is_active=false", json!(0)),
        ("/campaigns?status=running", json!(1)),
        ("/campaigns?status=draft", json!(0)),
        (&format!("/campaigns/{campaign}/tasks?limit=1"), json!(3)),
        (&format!("/campaigns/{campaign}/tasks?status=pending"), json!(3)),
        (&format!("/campaigns/{campaign}/tasks?status=completed"), json!(0)),
        (&format!("/campaigns/{campaign}/tasks?outcome=success"), Value::Null),
    ] {
        assert_eq!(admin.get(list).await.expect(200)["total"], total, "{list}");
    }
    platform.stop().await;
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_is_422_with_the_path() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let cases = [
        ("/flow/states/1/name", json!("greeting"), "config.flow.states[1].name"),
        ("/flow/transitions/0/to", json!("nowhere"), "config.flow.transitions[0].to"),
        ("/llm/provider", json!("acme"), "config.llm.provider"),
        ("/llm/temperature", json!(2.5), "config.llm.temperature"),
        ("/llm/temperature", json!("warm"), "config.llm.temperature"),
        ("/flow/type", json!("circular"), "config.flow.type"),
        ("/context/role", json!(7), "config.context.role"),
        ("/context/role", json!("a\u{0}b"), "config.context.role"),
        ("/tools", json!([{"name": "a", "color": "red"}]), "config.tools[0].color"),
    ];
    for (pointer, value, path) in cases {
        let mut config = skillbase_config();
        *config.pointer_mut(pointer).unwrap() = value;
        let answer = admin.post("/skillbases", &json!({"name": "Bot", "slug": "bot", "config": config})).await.problem(422);
        assert_eq!(answer.paths()[0], path);
    }
    let mut config = skillbase_config();
    config["voice"].as_object_mut().unwrap().remove("stt_provider");
    let answer = admin.post("/skillbases", &json!({"name": "Bot", "slug": "Not A Slug", "config": config})).await.problem(422);
    assert_eq!(answer.paths(), ["config.voice.stt_provider"]);
    platform.stop().await;
}

#[tokio::test]
async fn a_skillbase_of_a_running_campaign_is_kept() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let campaign = admin.running_campaign(1, json!({})).await;
    let skillbase = admin.get(&format!("/campaigns/{campaign}")).await["skillbase_id"].as_str().unwrap().to_owned();
    admin.delete(&format!("/skillbases/{skillbase}")).await.problem(409);
    admin.act(&format!("/campaigns/{campaign}/pause")).await.expect(200);
    admin.delete(&format!("/skillbases/{skillbase}")).await.expect(204);
    platform.stop().await;
}

/// No campaign runs on a bot that does not exist, regardless of the command that would start it.
#[tokio::test]
async fn a_campaign_whose_skillbase_is_deleted_does_not_run() {
    let platform = Platform::start().await;
    let admin = platform.admin().await;
    let delete_skillbase_of = async |campaign: &str| {
        let skillbase = admin.get(&format!("/campaigns/{campaign}")).await["skillbase_id"].as_str().unwrap().to_owned();
        admin.delete(&format!("/skillbases/{skillbase}")).await.expect(204);
    };
    let draft = admin.campaign(json!({})).await;
    admin.upload(&draft, "list.csv", b"phone_number\n+12025550100\n".to_vec()).await.expect(200);
    delete_skillbase_of(&draft).await;
    admin.act(&format!("/campaigns/{draft}/start")).await.problem(409);
    admin.act(&format!("/campaigns/{draft}/clone")).await.problem(409);
    let paused = admin.running_campaign(1, json!({})).await;
    admin.act(&format!("/campaigns/{paused}/pause")).await.expect(200);
    delete_skillbase_of(&paused).await;
    admin.act(&format!("/campaigns/{paused}/resume")).await.problem(409);
    let other = admin.skillbase().await;
    admin.put(&format!("/campaigns/{paused}"), &json!({"skillbase_id": other})).await.expect(200);
    admin.act(&format!("/campaigns/{paused}/resume")).await.expect(200);
    // A deletion that was decided at the same time as a start: no call is claimed for the campaign.
    let me = admin.get("/auth/me").await;
    let context = eventstore::CommandContext::system(me["company"]["id"].as_str().unwrap().parse().unwrap(), "test", eventstore::now());
    let store = &platform.app().store;
    store.execute::<Skillbase>(&context, other.parse().unwrap(), SkillbaseCommand::Delete).await.unwrap();
    let claim = admin.act(&format!("/campaigns/{paused}/tasks/claim")).await.expect(204);
    assert_eq!(claim.header("reason"), Some("not_running"));
    platform.stop().await;
}

/// A start from another process, between the deletion's check of the campaigns and its append.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_start_and_a_deletion_of_its_skillbase_at_the_same_moment_one_loses() {
    let direct = new_database().await;
    let (proxy, url) = Proxy::before(&direct).await;
    let (platform, other) = (Platform::start_on(&url).await, Platform::start_on(&direct).await);
    let admin = platform.admin().await;
    let campaign = admin.campaign(json!({})).await;
    admin.upload(&campaign, "list.csv", b"phone_number\n+12025550100\n".to_vec()).await.expect(200);
    let skillbase = admin.get(&format!("/campaigns/{campaign}")).await["skillbase_id"].as_str().unwrap().to_owned();
    let (starter, path) = (admin.at(&other.base()), format!("/campaigns/{campaign}/start"));
    let append = proxy.clone();
    let looked = async move {
        let start = async move { drop(starter.act(&path).await.expect(200)) };
        append.hold_at(&["require_as_predicted", "from append_events("], start);
    };
    proxy.hold_at(&["as \"runs!\""], looked);
    admin.delete(&format!("/skillbases/{skillbase}")).await.problem(409);
    assert_eq!(admin.get(&format!("/campaigns/{campaign}")).await["status"], "running");
    // The refused deletion blocks no other start and no later deletion.
    for action in ["pause", "resume", "pause"] {
        admin.act(&format!("/campaigns/{campaign}/{action}")).await.expect(200);
    }
    admin.delete(&format!("/skillbases/{skillbase}")).await.expect(204);
    admin.act(&format!("/campaigns/{campaign}/resume")).await.problem(409);
    other.stop().await;
    platform.stop().await;
}
