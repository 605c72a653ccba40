//! The platform in a separate process, as in production.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Client, binary};

/// Stops the process when it is dropped.
pub struct Process {
    child: Child,
    /// The admin of a new company, or the one whom the database has already.
    pub client: Client,
}

impl Process {
    /// Starts the process with the additions of `configure`, and waits until a company can be registered.
    pub async fn start(configure: impl FnOnce(&mut Command)) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(binary("newvoice"));
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--drain-sec", "0"]).env_remove("DATABASE_URL");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        configure(&mut command);
        let mut process = Self { child: command.spawn().unwrap(), client: Client::new(&format!("http://127.0.0.1:{port}"), None) };
        let body = json!({"email": "a@example.com", "password": "correct horse", "company_name": "A"});
        for _ in 0..600 {
            let send = |path| process.client.request(Method::POST, path).json(&body).send();
            let answered = match send("/auth/register").await {
                Ok(response) if response.status() == 409 => {
                    let login = json!({"email": body["email"], "password": body["password"]});
                    process.client.request(Method::POST, "/auth/login").json(&login).send().await
                }
                answered => answered,
            };
            if let Ok(response) = answered
                && response.status().is_success()
            {
                let session: Value = response.json().await.unwrap();
                process.client = process.client.with_token(session["token"].as_str().unwrap());
                return process;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the platform never answered");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
