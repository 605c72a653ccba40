// The walk of walk.py with the types that openapi-typescript makes from the OpenAPI document. The compiler checks it, strictly and without
// casts; Node runs it.
import createClient from "openapi-fetch";
import type { components, paths } from "./newvoice.js";

type Problem = components["schemas"]["Problem"];

const base = process.argv[2];
const client = createClient<paths>({ baseUrl: `${base}/api/v1` });

/** The answer, unless it is a problem. */
function good<T>({ data, error }: { data?: T; error?: Problem }): T {
  if (data === undefined) throw new Error(`unexpected answer: ${JSON.stringify(error)}`);
  return data;
}

function equal<T>(found: T, expected: T) {
  if (found !== expected) throw new Error(`${String(found)} instead of ${String(expected)}`);
}

const email = "walk.ts@example.com";
const password = "nine purple lanterns";
good(await client.POST("/auth/register", { body: { email, password, company_name: "Walk in TypeScript" } }));
const session = good(await client.POST("/auth/login", { body: { email, password } }));
client.use({
  onRequest({ request }) {
    request.headers.set("authorization", `Bearer ${session.token}`);
    return request;
  },
});

const bot = good(
  await client.POST("/skillbases", {
    body: {
      name: "Reminder",
      slug: "reminder",
      config: {
        context: { role: "You remind people of their appointment." },
        flow: { type: "linear", states: ["greeting", { name: "goodbye" }] },
        voice: { tts_provider: "cartesia", stt_provider: "deepgram" },
        llm: { provider: "groq", model: "llama-3.1-8b-instant", temperature: 0.4 },
      },
    },
  }),
);
const campaign = good(await client.POST("/campaigns", { body: { name: "Reminders", skillbase_id: bot.id } }));
const ofCampaign = { params: { path: { id: campaign.id } } };
good(await client.PUT("/campaigns/{id}", { ...ofCampaign, body: { description: "From TypeScript" } }));
const upload = await client.POST("/campaigns/{id}/call-list", {
  ...ofCampaign,
  body: { file: "phone_number,contact_name\n+12025550143,Ada\n" },
  bodySerializer: (body) => {
    const form = new FormData();
    form.append("file", new Blob([body.file]), "list.csv");
    return form;
  },
});
equal(good(upload).created, 1);
good(await client.POST("/campaigns/{id}/start", ofCampaign));

const claim = good(await client.POST("/campaigns/{id}/tasks/claim", ofCampaign));
if (claim === undefined) throw new Error("there is a task to claim");
const ofCall = { params: { path: { id: claim.call_id } } };
good(await client.POST("/calls", { body: { call_id: claim.call_id, direction: "outbound", phone_number: claim.task.phone_number } }));
const turn = { turn_index: 0, user_text: "Yes?", agent_text: "Good morning.", latency_llm_ms: 480, stt_duration_sec: 2, tts_characters: 13 };
equal(good(await client.POST("/calls/{id}/turns", { ...ofCall, body: [turn] })).recorded, 1);
equal(good(await client.POST("/calls/{id}/end", { ...ofCall, body: { outcome: "success" } })).outcome, "success");
const done = await client.POST("/tasks/{id}/complete", {
  params: { path: { id: claim.task.id } },
  body: { call_id: claim.call_id, outcome: "success" },
});
equal(good(done).status, "completed");
const min_position = Number(done.response.headers.get("event-position"));

const hours = good(await client.GET("/analytics/metrics", { params: { query: { group_by: "hour", min_position } } }));
equal(hours.groups?.[0]?.turn_count, 1);
const costs = good(await client.GET("/analytics/costs", { params: { query: { group_by: "component", min_position } } }));
equal(costs.groups?.some((component) => component.key === "stt"), true);
const bill = good(await client.GET("/analytics/calls/{id}/costs", { params: { ...ofCall.params, query: { min_position } } }));
const whatIf = await client.POST("/price-lists/what-if", {
  params: { query: { min_position } },
  body: { from: "2026-01-01", to: "2100-01-01", rates: [{ component: "stt", price: "0.0043", per: 1, unit: "minute" }] },
});
equal(good(whatIf).actual.cost_total, bill.cost_total);
const history = good(await client.GET("/calls/{id}/history", ofCall));
equal(history.items.at(-2)?.event_type, "CallEnded");
// `event_type` tells the type of the payload.
equal(history.items.filter((event) => event.event_type === "TurnRecorded")[0]?.payload.user_text, "Yes?");
console.log("the walk is done:", history.items.length, "events of the call");
