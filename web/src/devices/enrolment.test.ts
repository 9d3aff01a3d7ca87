import { expect, test } from "vitest";
import { enrolmentLink, isPossibleCode, joinCommand, scopesFor } from "./enrolment";

test("a code out of an address goes into a command only when it is nothing but letters and digits", () => {
  expect(isPossibleCode("k5q2vyb7hj3mzt6wdn4rxcge2a")).toBe(true);
  for (const bad of ["", "short", "k5q2vyb7;reboot", "$(reboot)$(x)", "k5q2 vyb7hj3", "k5q2vyb7\nreboot", "x".repeat(101)])
    expect(isPossibleCode(bad)).toBe(false);
});

test("the link and the command are those of the terminal", () => {
  expect(joinCommand("k5q2vyb7", "http://hub:8600")).toBe("autoglm devices join k5q2vyb7 --url http://hub:8600");
  expect(enrolmentLink("k5q2vyb7", "https://hub/base")).toBe("https://hub/base/#enrol=k5q2vyb7");
});

test("the usual rights are those of this device alone, and each is asked for once", () => {
  expect(scopesFor("press-7", ["send", "read", "ask"], "")).toEqual([
    "send:message:device:press-7",
    "read:message:device:press-7",
    "model:use:*",
  ]);
  expect(scopesFor("a", ["ask"], " model:use:*, read:sensor:a  ")).toEqual(["model:use:*", "read:sensor:a"]);
});
