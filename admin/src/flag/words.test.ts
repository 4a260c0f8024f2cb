import type { JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { wordsOf } from "./words.ts";

const country = { var: "country" };
const plan = { var: "user.plan" };

describe("wordsOf", () => {
	it.each<[JsonValue, string]>([
		[{ "==": [country, "DE"] }, "country is “DE”"],
		[{ "===": ["DE", country] }, "country is exactly “DE”"],
		[{ "!=": [country, null] }, "country is not null"],
		[{ "==": [{ var: ["country"] }, true] }, "country is true"],
		[{ "<": [5, { var: "age" }] }, "age is above 5"],
		[{ ">=": [{ var: "age" }, 18] }, "age is at least 18"],
		[{ "<=": [18, { var: "age" }, 65] }, "age is from 18 to 65"],
		[{ "<": [18, { var: "age" }, 65] }, "age is above 18 and below 65"],
		[{ in: [country, ["DE", "FR"]] }, "country is one of “DE”, “FR”"],
		[{ "!": { in: [country, ["DE"]] } }, "country is none of “DE”"],
		[{ in: ["@example.com", { var: "email" }] }, "email contains “@example.com”"],
		[{ starts_with: [{ var: "targetingKey" }, "qa-"] }, "targeting key starts with “qa-”"],
		[{ sem_ver: [{ var: "app" }, "^", "2.1.0"] }, "app is of the same major version as 2.1.0"],
		[{ ">=": [{ var: "$flagd.timestamp" }, 1767225600] }, "it is not before 2026-01-01 00:00 UTC"],
		[{ $ref: "testers" }, "in segment testers"],
		[{ "!": [{ $ref: "testers" }] }, "not in segment testers"],
		[{ "!!": [plan] }, "user.plan is set"],
		[{ "!": plan }, "user.plan is not set"],
		[true, "always"],
		[
			{ and: [{ "==": [plan, "pro"] }, { or: [{ "==": [country, "DE"] }, { $ref: "testers" }] }] },
			"user.plan is “pro” and (country is “DE” or in segment testers)",
		],
	])("%j", (condition, text) => {
		expect((wordsOf(condition) ?? []).map((word) => word.text).join("")).toBe(text);
	});

	it.each<[JsonValue]>([
		[{ "==": [country, plan] }],
		[{ "==": [{ var: ["country", "DE"] }, "DE"] }],
		[{ "<": [{ "+": [{ var: "age" }, 1] }, 5] }],
		[{ ">": [1, { var: "age" }, 0] }],
		[{ and: [{ "==": [country, "DE"] }, { some: [{ var: "tags" }, true] }] }],
		[{ and: [] }],
		[{ "==": [country, "DE"], "!=": [country, "FR"] }],
		[{ ">": [{ var: "$flagd.timestamp" }, 1e300] }],
		[null],
	])("leaves %j to be shown as JSON", (condition) => {
		expect(wordsOf(condition)).toBeUndefined();
	});
});
