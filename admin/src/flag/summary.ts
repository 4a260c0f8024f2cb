import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { type Outcome, rulesOf, type Share } from "./rules.ts";

/** Summary is a flag's state in one environment, short enough for a table cell. */
export interface Summary {
	state: "on" | "off" | "invalid" | "archived" | "killed";
	/** serves is what a request gets where no rule matches, or of a killed flag every request; empty if off. */
	serves: string;
	/** rules says how many rules come before that; empty if none. */
	rules: string;
}

type Summarised = Pick<Flag, "state" | "archived" | "problem" | "defaultVariant" | "definition"> & {
	killed?: { variant: string } | undefined;
};

export const codeDefault = "code default";

export function summaryOf(flag: Summarised): Summary {
	if (flag.archived) return { state: "archived", serves: "", rules: "" };
	if (flag.killed) return { state: "killed", serves: flag.killed.variant, rules: "" };
	if (flag.state !== "ENABLED") return { state: "off", serves: "", rules: "" };
	if (flag.problem) return { state: "invalid", serves: "", rules: "" };
	const fallback = flag.defaultVariant || codeDefault;
	const targeting = rulesOf(flag.definition);
	if (targeting === undefined) return { state: "on", serves: fallback, rules: "" };
	const count = targeting.rules.length;
	return {
		state: "on",
		serves: outcomeText(targeting.otherwise, fallback),
		rules: count === 0 ? "" : count === 1 ? "1 rule" : `${count} rules`,
	};
}

function outcomeText(outcome: Outcome, fallback: string): string {
	switch (outcome.kind) {
		case "default":
			return fallback;
		case "variant":
			return outcome.name;
		case "split":
			return splitText(outcome.shares);
		case "computed":
			return "computed";
	}
}

function splitText(shares: Share[]): string {
	if (shares.length > 4) return `split ${shares.length} ways`;
	if (shares.length > 2) return `${shares.map((share) => percent(share.part).replace(" %", "")).join("/")} %`;
	return shares.map((share) => `${percent(share.part)} ${share.variant}`).join(", ");
}

/** percent writes a part of 1 with at most two decimals: 0.25 is "25 %". */
export function percent(part: number): string {
	return `${Number((part * 100).toFixed(2))} %`;
}
