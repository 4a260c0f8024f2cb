import { fromJson } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { AuditChangeSchema } from "../gen/guidon/v1/audit_pb.ts";
import { actorName, differencesOf, entryId, shortDifference } from "./entry.ts";

it("entryId names the chain and the place in it", () => {
	expect(entryId({ environment: "production", sequence: 42n })).toBe("production:42");
	expect(entryId({ environment: "", sequence: 7n })).toBe("installation:7");
});

it("differencesOf keeps null and absent apart", () => {
	const change = fromJson(AuditChangeSchema, {
		fields: [
			{ path: "$.flag.state", before: "ENABLED", after: "DISABLED" },
			{ path: "$.flag.targeting", after: { if: [true, "on", null] } },
		],
	});
	expect(differencesOf(change)).toEqual([
		{ path: "$.flag.state", before: "ENABLED", after: "DISABLED" },
		{ path: "$.flag.targeting", before: undefined, after: { if: [true, "on", null] } },
	]);
});

it("actorName leaves the id out", () => {
	expect(actorName("key:k7Qd release bot")).toBe("release bot");
	expect(actorName("system")).toBe("system");
});

it("shortDifference says one small change, and only that", () => {
	const state = { path: "$.flag.state", before: "ENABLED", after: "DISABLED" };
	expect(shortDifference([state])).toBe('state "ENABLED" → "DISABLED"');
	expect(shortDifference([{ path: "$.defaultVariant", before: undefined, after: "on" }])).toBe(
		'defaultVariant nothing → "on"',
	);
	expect(shortDifference([state, state])).toBe("");
	expect(shortDifference([{ path: "$.targeting", before: {}, after: "on" }])).toBe("");
});
