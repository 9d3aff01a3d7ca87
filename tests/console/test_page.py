"""The console in a real browser, served by a real hub with a scripted model."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, expect

from console.pause import FIRST_HALF, SECOND_HALF, Pause
from console.relay import Relay
from console.visit import Open
from hub import HubProcess, running_hub
from scripted_model import ScriptedModel

pytestmark = pytest.mark.browser

HOSTILE_TEXT = "<img src=x onerror=\"document.title='hacked'\"> [x](javascript:document.title='hacked') ![p](http://evil.invalid/p)"


# --- the key ------------------------------------------------------------------------------------------


async def test_the_key_leaves_the_address_bar_and_lasts_over_a_reload(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    await visit.expect_connected()
    assert visit.page.url == f"{hub.url}/"
    await visit.page.reload()
    await visit.expect_connected()
    assert visit.errors == []


async def test_without_a_key_the_page_says_where_it_lies_and_takes_the_whole_address(
    hub: HubProcess, open_page: Open
) -> None:
    visit = await open_page(hub.url)
    await expect(visit.page.get_by_role("main")).to_contain_text("autoglm console --print")
    await expect(visit.page.get_by_role("main")).to_contain_text("~/.local/share/autoglm")
    await visit.page.get_by_label("Key", exact=True).fill(hub.page_url)
    await visit.page.keyboard.press("Enter")
    await visit.expect_connected()


async def test_a_wrong_key_is_asked_for_again(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(f"{hub.url}/#key=ag-wrong")
    await expect(visit.page.get_by_role("alert")).to_contain_text("The hub does not know this key")
    assert "wrong" not in visit.page.url
    await visit.page.get_by_label("Key", exact=True).fill(hub.admin_key)
    await visit.page.get_by_role("button", name="Open the console").click()
    await visit.expect_connected()


async def test_signing_out_leaves_nothing_behind(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    await expect(await visit.ask("my secret")).to_contain_text("You said: my secret")
    visit.page.on("dialog", lambda dialog: dialog.accept())
    await visit.page.get_by_role("button", name="Settings").click()
    await visit.page.get_by_role("button", name="Sign out and clear this browser").click()
    await expect(visit.page.get_by_label("Key", exact=True)).to_be_visible()
    assert await visit.page.evaluate("JSON.stringify(localStorage)") == "{}"


# --- chat ---------------------------------------------------------------------------------------------


async def test_an_answer_is_shown_while_it_is_written_and_says_who_gave_it(
    hub: HubProcess, pause: Pause, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    answer = await visit.ask("tell me")
    await expect(answer.locator(".markdown")).to_have_text(FIRST_HALF)
    await expect(visit.page.get_by_role("button", name="Stop")).to_be_visible()
    pause.go_on()
    await expect(answer.locator(".markdown")).to_have_text(FIRST_HALF + SECOND_HALF)
    origin = re.compile(r"^echo-model · echo-1 · first word after [\d.]+\ss$")
    await expect(answer.locator(".origin")).to_have_text(origin)
    await expect(visit.page.get_by_label("Your question")).to_be_focused()


@pytest.mark.parametrize("way", ["button", "escape"])
async def test_a_stopped_answer_ends_at_once(hub: HubProcess, pause: Pause, open_page: Open, way: str) -> None:
    visit = await open_page(hub.page_url)
    answer = await visit.ask("tell me")
    await expect(answer).to_contain_text(FIRST_HALF)
    if way == "button":
        await visit.page.get_by_role("button", name="Stop").click()
    else:
        await visit.page.keyboard.press("Escape")
    await expect(answer).to_contain_text("You stopped this answer.")
    await expect(answer.locator(".markdown")).to_have_text(FIRST_HALF)
    await expect(visit.page.get_by_label("Your question")).to_be_focused()


async def test_conversations_are_kept_and_the_model_sees_what_was_said_before(
    hub: HubProcess, model: ScriptedModel, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    await expect(await visit.ask("first")).to_contain_text("You said: first")
    await expect(await visit.ask("second")).to_contain_text("You said: second")
    said = [message["content"] for message in model.requests[-1].json()["messages"]]
    assert said == ["first", "You said: first", "second"]
    await visit.page.reload()
    await visit.page.get_by_role("button", name=re.compile("^first")).click()
    await expect(visit.page.locator(".answer")).to_have_text(
        [re.compile("You said: first"), re.compile("You said: second")]
    )
    await visit.page.locator(".side").get_by_role("button", name="New conversation").click()
    await expect(visit.page.locator(".answer")).to_have_count(0)


async def test_an_answer_that_was_cut_off_says_so_and_can_be_asked_for_again(
    hub: HubProcess, pause: Pause, relay: Relay, open_page: Open
) -> None:
    visit = await open_page(f"{relay.url}/#key={hub.admin_key}")
    answer = await visit.ask("tell me")
    await expect(answer).to_contain_text(FIRST_HALF)
    relay.drop()
    await expect(answer).to_contain_text("The answer was cut off")
    pause.go_on()
    await visit.page.get_by_role("button", name="Try again").click()
    await expect(answer.locator(".markdown")).to_have_text(FIRST_HALF + SECOND_HALF)
    await expect(visit.page.locator(".answer")).to_have_count(1)


async def test_enter_ends_a_word_of_an_input_method_before_it_sends(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    await visit.page.get_by_label("Your question").click()
    devtools = await visit.page.context.new_cdp_session(visit.page)
    await devtools.send("Input.imeSetComposition", {"text": "nihao", "selectionStart": 5, "selectionEnd": 5})
    await visit.page.keyboard.press("Enter")
    await devtools.send("Input.insertText", {"text": "你好"})
    await expect(visit.page.locator(".question")).to_have_count(0)
    await visit.page.keyboard.press("Shift+Enter")
    await visit.page.keyboard.type("!")
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator(".question")).to_have_text(["你好\n!"], use_inner_text=True)


async def test_a_picture_goes_to_the_model_as_a_data_url(
    hub: HubProcess, model: ScriptedModel, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    picture = await visit.page.screenshot(clip={"x": 0, "y": 0, "width": 40, "height": 30})
    file = FilePayload(name="p.png", mimeType="image/png", buffer=picture)
    await visit.page.locator("input[type=file]").set_input_files(file)
    await expect(visit.page.get_by_alt_text("Picture 1")).to_be_visible()
    await expect(await visit.ask("what is this?")).to_contain_text("You said: what is this?")
    text, image = model.requests[-1].json()["messages"][-1]["content"]
    assert text == {"type": "text", "text": "what is this?"}
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")


async def test_a_hub_without_a_model_says_what_to_do(tmp_path: Path, open_page: Open) -> None:
    with running_hub(tmp_path / "data") as hub:
        visit = await open_page(hub.page_url)
        await expect(visit.page.locator(".pill")).to_have_text("No model yet")
        await expect(await visit.ask("anybody?")).to_contain_text("Run “autoglm models pull qwen2.5-coder-0.5b”")
        await visit.page.locator(".pill").click()
        await expect(visit.page.get_by_role("dialog")).to_contain_text("autoglm models pull")


# --- mailbox ------------------------------------------------------------------------------------------


async def test_a_message_to_oneself_is_shown_once_and_can_be_acknowledged(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    mail = await visit.send("user:admin", "note to myself")
    await mail.get_by_role("button", name="Acknowledge").click()
    await expect(mail.locator(".mail-actions")).to_contain_text("Acknowledged")
    await expect(mail.get_by_role("list", name="Receipts")).to_contain_text("Acknowledged")
    await expect(mail).to_have_count(1)
    await visit.page.reload()
    await expect(visit.mails("note to myself")).to_have_count(1)
    assert visit.errors == []


async def test_a_model_answers_in_the_mailbox_as_it_writes_and_exactly_once(
    hub: HubProcess, pause: Pause, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    await visit.send("model:auto", "please answer once")
    await expect(visit.page.locator(".draft .markdown")).to_have_text(FIRST_HALF)
    pause.go_on()
    answer = visit.page.locator(".mail", has_text="In reply to “please answer once”")
    await expect(answer.locator(".markdown")).to_have_text(FIRST_HALF + SECOND_HALF)
    await expect(answer.locator(".address").first).to_have_text("model:echo-model")
    await expect(visit.page.locator(".draft")).to_have_count(0)


async def test_a_message_from_elsewhere_arrives_and_its_sender_learns_that_it_was_read(
    hub: HubProcess, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    with hub.client() as client:
        envelope = {"from": "device:press-7", "to": "user:admin", "content": "61 bar", "kind": "alert"}
        id = client.post("/api/messages", json=envelope).raise_for_status().json()["id"]
        await expect(visit.mails("61 bar")).to_contain_text("alert")
        await visit.mails("61 bar").get_by_role("button", name="Acknowledge").click()
        await expect(visit.mails("61 bar").locator(".mail-actions")).to_contain_text("Acknowledged")
        states = [step["state"] for step in client.get(f"/api/messages/{id}/receipts").json()["receipts"]]
    assert states == ["accepted", "read", "acknowledged"]


async def test_a_question_is_answered_by_a_button_and_whoever_asked_has_the_answer(
    hub: HubProcess, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    with hub.client() as client:
        asked = {
            "from": "device:press-7",
            "to": "user:admin",
            "question": "Stop it?",
            "choices": ["stop", "let it run"],
        }
        id = client.post("/api/questions", json=asked).raise_for_status().json()["id"]
        card = visit.page.locator(".mail", has_text="Stop it?").last
        await expect(card.locator(".choices button")).to_have_text(asked["choices"])
        assert await visit.overflow_px() == 0
        await card.get_by_role("button", name="let it run").click()
        await expect(card).to_contain_text("You answered: let it run (the first answer in time counts)")
        await expect(card.locator(".choices")).to_have_count(0)
        answer = client.get(f"/api/questions/{id}?wait=20").raise_for_status().json()["answer"]
    assert (answer["choice"], answer["by"]) == ("let it run", "user:admin")
    await visit.page.reload()
    await visit.open_mailbox()
    await expect(card).to_contain_text("You answered: let it run (the first answer in time counts)")


async def test_a_strangers_label_makes_no_buttons_nor_does_a_question_whose_time_is_over(
    hub: HubProcess, open_page: Open
) -> None:
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    with hub.client() as client:
        lure = {"from": "device:press-7", "to": "user:admin", "content": "click", "labels": {"choices": '["yes"]'}}
        client.post("/api/messages", json=lure).raise_for_status()
        asked = {
            "from": "device:press-7",
            "to": "user:admin",
            "question": "Now?",
            "choices": ["yes"],
            "expires_in_s": 3600,
        }
        client.post("/api/questions", json=asked).raise_for_status()
    await expect(visit.mails("click")).to_have_count(1)
    await expect(visit.mails("click").locator(".choices")).to_have_count(0)
    card = visit.page.locator(".mail", has_text="Now?").last
    await expect(card.locator(".choices button")).to_have_count(1)
    await visit.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=2))
    await visit.page.reload()
    await visit.open_mailbox()
    await expect(card).to_contain_text("The time to answer is over.")
    await expect(card.locator(".choices")).to_have_count(0)


async def test_what_the_hub_refuses_is_said_at_the_message(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    await visit.send("alice", "hello")
    await expect(visit.page.get_by_role("alert")).to_contain_text("An address begins with user:")
    mail = await visit.send("group:nobody", "hello")
    await expect(mail).to_contain_text("This address cannot be reached from here.")
    await mail.get_by_role("button", name="Dismiss").click()
    await expect(mail).to_have_count(0)


async def test_after_a_cut_the_page_reconnects_and_nothing_is_missing_or_doubled(
    hub: HubProcess, relay: Relay, open_page: Open
) -> None:
    visit = await open_page(f"{relay.url}/#key={hub.admin_key}")
    await visit.expect_connected()
    await visit.open_mailbox()
    await expect(await visit.send("user:admin", "before the cut")).to_have_count(1)
    relay.cut()
    await expect(visit.page.locator(".pill")).to_have_text("Reconnecting…")
    mine = await visit.send("user:admin", "written while away")
    await expect(mine).to_contain_text("Waiting to be sent")
    with hub.client() as client:
        client.post("/api/messages", json={"from": "user:bob", "to": "user:admin", "content": "sent meanwhile"})
        relay.mend()
        await expect(mine.get_by_role("button", name="Acknowledge")).to_be_visible(timeout=30_000)
        for text in ("before the cut", "written while away", "sent meanwhile"):
            await expect(visit.mails(text)).to_have_count(1)
        stored = client.get("/api/messages", params={"to": "user:admin", "limit": 1000}).json()["messages"]
    assert [message["content"] for message in stored].count("written while away") == 1
    await visit.expect_connected()


async def test_a_message_written_while_away_survives_a_reload(hub: HubProcess, relay: Relay, open_page: Open) -> None:
    visit = await open_page(f"{relay.url}/#key={hub.admin_key}")
    await visit.expect_connected()
    await visit.open_mailbox()
    relay.cut()
    await expect(visit.page.locator(".pill")).to_have_text("Reconnecting…")
    await expect(await visit.send("user:admin", "kept on this device")).to_contain_text("Waiting to be sent")
    await visit.page.close()
    relay.mend()
    again = await visit.page.context.new_page()
    await again.goto(relay.url)
    mail = again.locator(".mail", has_text="kept on this device")
    await expect(mail.get_by_role("button", name="Acknowledge")).to_be_visible()
    await expect(mail).to_have_count(1)


async def test_a_hub_with_new_data_is_read_from_its_beginning(hub: HubProcess, tmp_path: Path, open_page: Open) -> None:
    """Its log counts from 1 again: a page that went on from its old place would wait for messages for a long time."""
    visit = await open_page(hub.page_url)
    await visit.open_mailbox()
    mail = await visit.send("user:admin", "in the old log")
    await expect(mail.get_by_role("button", name="Acknowledge")).to_be_visible()
    kept = await visit.page.evaluate("Object.entries(localStorage).filter(([name]) => name.startsWith('autoglm.mail'))")
    with running_hub(tmp_path / "data") as fresh:
        with fresh.client() as client:
            client.post("/api/messages", json={"from": "user:bob", "to": "user:admin", "content": "in the new log"})
        other = await open_page(fresh.url)
        await other.page.evaluate("kept => kept.forEach(([name, value]) => localStorage.setItem(name, value))", kept)
        await other.page.goto(fresh.page_url)
        await other.open_mailbox()
        await expect(other.mails("in the new log")).to_have_count(1)
        await expect(other.mails("in the old log")).to_have_count(0)


# --- for everybody ------------------------------------------------------------------------------------


async def test_the_page_speaks_the_language_of_the_browser_or_the_chosen_one(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url, locale="zh-CN")
    await expect(visit.page.get_by_role("tab", name="对话")).to_be_visible()
    await expect(visit.page.locator("html")).to_have_attribute("lang", "zh-CN")
    await visit.page.get_by_role("button", name="设置").click()
    await visit.page.get_by_role("radio", name="English").check()
    await expect(visit.page.get_by_role("tab", name="Chat")).to_be_visible()
    await visit.page.reload()
    await expect(visit.page.locator("html")).to_have_attribute("lang", "en")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_follows_the_system_s_appearance_until_one_is_chosen(
    hub: HubProcess, open_page: Open, scheme: str
) -> None:
    visit = await open_page(hub.page_url, color_scheme=scheme)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    by_system = await visit.page.evaluate(background)
    await visit.page.get_by_role("button", name="Settings").click()
    await visit.page.get_by_role("radio", name="Light" if scheme == "dark" else "Dark").check()
    chosen = await visit.page.evaluate(background)
    assert {by_system, chosen} == {"rgb(244, 246, 248)", "rgb(16, 20, 26)"}
    await visit.page.reload()
    assert await visit.page.evaluate(background) == chosen


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_a_narrow_window_needs_no_sideways_scrolling(hub: HubProcess, open_page: Open, locale: str) -> None:
    visit = await open_page(hub.page_url, locale=locale, viewport={"width": 320, "height": 640})
    long = "x" * 300
    await expect(await visit.ask(f"{long}\n\n```\n{long}\n```\n\n|{long}|{long}|\n|-|-|\n|1|2|")).to_contain_text(
        "echo-1"
    )
    assert await visit.overflow_px() <= 0
    await visit.open_mailbox()
    await visit.page.locator("#mail-text").fill(long)
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator(".mail", has_text=long).first).to_be_visible()
    assert await visit.overflow_px() <= 0


async def test_hostile_text_stays_text(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    answer = await visit.ask(HOSTILE_TEXT)
    await expect(answer).to_contain_text("<img src=x onerror=")
    await visit.open_mailbox()
    await visit.send("model:auto", HOSTILE_TEXT)
    await expect(visit.page.locator(".mail .markdown", has_text="<img src=x onerror=")).to_be_visible()
    await expect(visit.page.locator(".draft")).to_have_count(0)
    assert await visit.page.locator("main img, main script, main [onerror], main a[href^='javascript' i]").count() == 0
    assert "hacked" not in await visit.page.title()
    assert visit.errors == []


async def test_code_is_almost_as_large_as_the_text_around_it(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    answer = await visit.ask("a `word` of code\n\n```\na block\n```")
    await expect(answer.locator(".origin")).to_be_visible()  # it is whole: nothing is drawn again
    sizes_px = [
        await answer.locator(part).first.evaluate("element => parseFloat(getComputedStyle(element).fontSize)")
        for part in ("p", "p code", "pre code")
    ]
    assert sizes_px[1] == sizes_px[2]
    assert 0.9 <= sizes_px[1] / sizes_px[0] <= 1


async def test_the_tabs_can_be_worked_by_keyboard(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(hub.page_url)
    await visit.page.get_by_role("tab", name="Chat").focus()
    await visit.page.keyboard.press("ArrowRight")
    await expect(visit.page.get_by_role("tab", name="Mailbox")).to_be_focused()
    await expect(visit.page.get_by_role("tabpanel", name="Mailbox")).to_be_visible()
