import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { outcomeOf, rulesOf, segmentsOf } from "./rules.ts";
import { percent, summaryOf } from "./summary.ts";

const isGerman = { "==": [{ var: "country" }, "DE"] };

function flag(targeting?: JsonValue, rest = {}) {
	const definition: JsonObject = {
		state: "ENABLED",
		variants: { blue: 1, green: 2 },
		defaultVariant: "blue",
	};
	if (targeting !== undefined) definition.targeting = targeting;
	return { state: "ENABLED", archived: false, problem: "", defaultVariant: "blue", definition, ...rest };
}

describe("rulesOf", () => {
	it.each([undefined, null, {}])("finds none in %j", (targeting) => {
		expect(rulesOf(flag(targeting).definition)).toBeUndefined();
	});

	it("flattens an if-chain and the chain in its else", () => {
		const targeting = { if: [isGerman, "blue", { if: [{ $ref: "testers" }, "green"] }] };
		expect(rulesOf(flag(targeting).definition)).toEqual({
			rules: [
				{ condition: isGerman, outcome: { kind: "variant", name: "blue" }, path: "$.targeting.if[0]" },
				{
					condition: { $ref: "testers" },
					outcome: { kind: "variant", name: "green" },
					path: "$.targeting.if[2].if[0]",
				},
			],
			otherwise: { kind: "default" },
		});
	});
});

describe("outcomeOf", () => {
	it("reads a split with its default bucketing", () => {
		expect(
			outcomeOf({
				fractional: [
					["blue", 1],
					["green", 3],
				],
			}),
		).toEqual({
			kind: "split",
			by: "targeting key",
			shares: [
				{ variant: "blue", weight: 1, part: 0.25 },
				{ variant: "green", weight: 3, part: 0.75 },
			],
		});
	});

	it("names what a split is drawn by", () => {
		const by = { cat: [{ var: "$flagd.flagKey" }, { var: "tenant" }] };
		expect(outcomeOf({ fractional: [by, ["blue"], ["green"]] })).toMatchObject({ by: "flag key + tenant" });
	});

	it.each<[JsonValue]>([
		[
			{
				fractional: [
					["blue", { var: "weight" }],
					["green", 1],
				],
			},
		],
		[{ fractional: [["blue", 0]] }],
		[{ var: "variant" }],
		[7],
	])("calls %j computed", (json) => {
		expect(outcomeOf(json)).toEqual({ kind: "computed", json });
	});
});

describe("summaryOf", () => {
	it.each<[string, Parameters<typeof summaryOf>[0]]>([
		["on · blue", flag()],
		["invalid", flag(undefined, { problem: "$.flag.variants: must be an object" })],
		["on · code default", flag(undefined, { defaultVariant: "" })],
		["on · green · 1 rule", flag({ if: [isGerman, "blue", "green"] })],
		["on · blue · 2 rules", flag({ if: [isGerman, "green", { $ref: "testers" }, "green"] })],
		[
			"on · 25 % blue, 75 % green",
			flag({
				fractional: [
					["blue", 25],
					["green", 75],
				],
			}),
		],
		[
			"on · 60/30/10 %",
			flag({
				fractional: [
					["blue", 60],
					["green", 30],
					["red", 10],
				],
			}),
		],
		["on · computed", flag({ var: "variant" })],
		["off", flag({ if: [isGerman, "green"] }, { state: "DISABLED" })],
		["killed · blue", flag({ if: [isGerman, "green"] }, { state: "DISABLED", killed: { variant: "blue" } })],
		["archived", flag(undefined, { state: "DISABLED", archived: true })],
	])("%s", (text, subject) => {
		const { state, serves, rules } = summaryOf(subject);
		expect([state, serves, rules].filter((part) => part !== "").join(" · ")).toBe(text);
	});
});

it("percent keeps two decimals", () => {
	expect([1, 0.25, 1 / 3, 0.00005].map(percent)).toEqual(["100 %", "25 %", "33.33 %", "0.01 %"]);
});

it("segmentsOf finds references at any depth, once", () => {
	expect(segmentsOf({ if: [{ and: [{ $ref: "b" }, { "!": { $ref: "a" } }] }, "x", { $ref: "b" }] })).toEqual([
		"a",
		"b",
	]);
});
