"""Walks through a campaign with the client that openapi-python-client makes from the OpenAPI document: a bot, a campaign, a call list, a call
with turns, its costs, a what-if and its history. mypy checks this file, so the types of the document must suffice without casts."""

import io
import sys
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from newvoice_client import AuthenticatedClient, Client
from newvoice_client.api.analytics import get_call_costs, get_costs, get_metrics
from newvoice_client.api.calls import end_call, get_call_history, record_turns, start_call
from newvoice_client.api.campaigns import create_campaign, get_campaign_stats, start_campaign, upload_call_list
from newvoice_client.api.identity import log_in, register
from newvoice_client.api.prices import ask_what_if
from newvoice_client.api.skillbases import create_skillbase
from newvoice_client.api.tasks import claim_task, complete_task
from newvoice_client.models import (
    CompleteTask,
    ComponentName,
    CostGroupByName,
    CreateSkillbase,
    DirectionName,
    EndCall,
    FlowTypeName,
    Login,
    NewCampaign,
    OutcomeName,
    Problem,
    RateInput,
    Register,
    SkillbaseConfig,
    SkillbaseContext,
    SkillbaseFlow,
    SkillbaseLlm,
    SkillbaseStateObject,
    SkillbaseVoice,
    StartCall,
    TaskStatusName,
    TurnRecordedEvent,
    TurnInput,
    UnitName,
    UploadForm,
    WhatIf,
)
from newvoice_client.types import File, Unset

T = TypeVar("T")


def good(answer: T | Problem | None) -> T:
    """The answer, unless it is a problem."""
    if answer is None or isinstance(answer, Problem):
        sys.exit(f"unexpected answer: {answer}")
    return answer


def main(base: str) -> None:
    url = f"{base}/api/v1"
    anonymous = Client(base_url=url)
    email, password = "walk@example.com", "nine purple lanterns"
    good(register.sync(client=anonymous, body=Register(email=email, password=password, company_name="Walk")))
    session = good(log_in.sync(client=anonymous, body=Login(email=email, password=password)))
    client = AuthenticatedClient(base_url=url, token=session.token)

    config = SkillbaseConfig(
        context=SkillbaseContext(role="You remind people of their appointment."),
        flow=SkillbaseFlow(type_=FlowTypeName.LINEAR, states=["greeting", SkillbaseStateObject(name="goodbye")]),
        voice=SkillbaseVoice(tts_provider="cartesia", stt_provider="deepgram"),
        llm=SkillbaseLlm(provider="groq", model="llama-3.1-8b-instant", temperature=0.4),
    )
    bot = good(create_skillbase.sync(client=client, body=CreateSkillbase(name="Reminder", slug="reminder", config=config)))
    campaign = good(create_campaign.sync(client=client, body=NewCampaign(name="Reminders", skillbase_id=bot.id)))
    file = File(payload=io.BytesIO(b"phone_number,contact_name\n+12025550143,Ada\n"), file_name="list.csv", mime_type="text/csv")
    assert good(upload_call_list.sync(campaign.id, client=client, body=UploadForm(file=file))).created == 1
    good(start_campaign.sync(campaign.id, client=client))

    claim = good(claim_task.sync(campaign.id, client=client))
    assert claim.task.status == TaskStatusName.IN_PROGRESS
    call_id, number = claim.call_id, claim.task.phone_number
    good(start_call.sync(client=client, body=StartCall(call_id=call_id, direction=DirectionName.OUTBOUND, phone_number=number)))
    turn = TurnInput(turn_index=0, user_text="Yes?", agent_text="Good morning.", latency_llm_ms=480, stt_duration_sec=2, tts_characters=13)
    assert good(record_turns.sync(call_id, client=client, body=[turn])).recorded == 1
    call = good(end_call.sync(call_id, client=client, body=EndCall(outcome=OutcomeName.SUCCESS)))
    assert call.outcome == OutcomeName.SUCCESS
    done = complete_task.sync_detailed(claim.task.id, client=client, body=CompleteTask(call_id=call_id, outcome=OutcomeName.SUCCESS))
    assert good(done.parsed).status == TaskStatusName.COMPLETED
    position = int(done.headers["Event-Position"])

    stats = good(get_campaign_stats.sync(campaign.id, client=client, min_position=position))
    assert stats.tasks.completed == 1 and stats.outcomes.success == 1
    metrics = good(get_metrics.sync(client=client, group_by=CostGroupByName.HOUR, min_position=position))
    hours = metrics.groups
    assert not isinstance(hours, Unset) and hours is not None
    assert [hour.turn_count for hour in hours] == [1] and metrics.totals.latency_llm_avg == 480
    costs = good(get_costs.sync(client=client, group_by=CostGroupByName.COMPONENT, min_position=position))
    components = costs.groups
    assert not isinstance(components, Unset) and components is not None
    assert {component.key for component in components} >= {"stt", "tts"}, components
    bill = good(get_call_costs.sync(call_id, client=client, min_position=position))
    print("the call cost", bill.cost_total, "for", [line.component.value for line in bill.lines])

    now = datetime.now(timezone.utc)
    rates = [RateInput(component=ComponentName.STT, price="0.0043", per=1, unit=UnitName.MINUTE)]
    period = {"from_": (now - timedelta(days=1)).isoformat(), "to": (now + timedelta(days=1)).isoformat()}
    what_if = good(ask_what_if.sync(client=client, body=WhatIf(from_=period["from_"], to=period["to"], rates=rates), min_position=position))
    assert what_if.actual.cost_total == bill.cost_total and what_if.unpriced
    history = good(get_call_history.sync(call_id, client=client))
    assert [event.event_type.value for event in history.items][-2:] == ["CallEnded", "CallOutcomeClassified"], history
    # `event_type` tells the type of the payload.
    assert [event.payload.user_text for event in history.items if isinstance(event, TurnRecordedEvent)] == ["Yes?"], history
    print("the walk is done:", len(history.items), "events of the call, the last by", history.items[-1].metadata.actor.kind.value)


main(sys.argv[1])
