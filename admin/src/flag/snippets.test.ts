import { expect, it } from "vitest";
import { commandOf, curlOf, goOf } from "./snippets.ts";

const flag = {
	key: "checkout.new-pricing",
	environment: "production",
	type: "boolean",
	reads: ["$flagd.timestamp", "country", "targetingKey", "visitor.plan"],
};

it("curlOf names everything the targeting reads", () => {
	expect(curlOf(flag, "https://guidon.test")).toBe(
		[
			"curl -s https://guidon.test/guidon.v1.EvaluationService/Evaluate \\",
			'  -H "Authorization: Bearer $GUIDON_KEY" \\',
			"  -H 'Content-Type: application/json' \\",
			`  -d '{"environment":"production","key":"checkout.new-pricing","context":{"targetingKey":"","country":"","visitor":{"plan":""}}}'`,
		].join("\n"),
	);
});

it("commandOf quotes for the shell", () => {
	expect(commandOf({ ...flag, reads: ["it's"] })).toBe(
		`guidon eval checkout.new-pricing --environment production \\\n  --context '{"targetingKey":"","it'\\''s":""}'`,
	);
});

it("goOf asks for the flag's type", () => {
	expect(goOf({ ...flag, reads: [] })).toBe(
		'value, err := client.BooleanValue(ctx, "checkout.new-pricing", false,\n\topenfeature.NewEvaluationContext(targetingKey, nil))',
	);
	expect(goOf({ ...flag, type: "integer", reads: ["country"] })).toContain(
		'client.IntValue(ctx, "checkout.new-pricing", 0,\n\topenfeature.NewEvaluationContext(targetingKey, map[string]any{\n\t\t"country": country,\n\t}))',
	);
});
