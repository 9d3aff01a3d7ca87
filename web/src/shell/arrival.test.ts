import { expect, test } from "vitest";
import { arrivalBy } from "./arrival";

test("an address is about one thing, and a key comes before all else", () => {
  expect(arrivalBy("#key=ag-1&invite=t")).toEqual({ about: "key", key: "ag-1" });
  expect(arrivalBy("#invite=a%2Db_9")).toEqual({ about: "invitation", token: "a-b_9" });
  expect(arrivalBy("#enrol=k5q2vyb7")).toEqual({ about: "enrolment", code: "k5q2vyb7" });
  expect(arrivalBy("#login=refused")).toEqual({ about: "login", outcome: "refused" });
  expect(arrivalBy("#login=unreachable")).toEqual({ about: "login", outcome: "unreachable" });
});

test("what is none of these stays in the address for others", () => {
  for (const other of ["", "#", "#mail=order-17", "#login=hacked", "#invite=", "#invite=%", "#reinvite=t"])
    expect(arrivalBy(other)).toEqual({ about: "nothing" });
});
