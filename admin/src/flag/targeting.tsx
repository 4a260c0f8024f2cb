import type { JsonValue } from "@bufbuild/protobuf";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { pretty } from "../json.ts";
import css from "./flag.module.css";
import { type Outcome, type Rule, rulesOf } from "./rules.ts";
import { Snippet } from "./snippet.tsx";
import { codeDefault, percent } from "./summary.ts";
import { wordsOf } from "./words.ts";

/** Targeting says in words who is served what. */
export function Targeting({ flag }: { flag: Flag }) {
	const targeting = rulesOf(flag.definition);
	const fallback = flag.defaultVariant || codeDefault;
	const targetingJson = flag.definition?.targeting;
	return (
		<section>
			<h2>Targeting</h2>
			{targeting === undefined ? (
				<p className={css.rule}>
					Everyone is served <Variant name={fallback} />. There are no rules.
				</p>
			) : (
				<ol className={css.rules}>
					{targeting.rules.map((rule) => (
						<RuleItem key={rule.path} rule={rule} fallback={fallback} />
					))}
					<li className={css.rule}>
						{targeting.rules.length > 0 ? "Otherwise" : "Everyone"}{" "}
						<Serve outcome={targeting.otherwise} fallback={fallback} />
					</li>
				</ol>
			)}
			{targeting !== undefined && targetingJson !== undefined && (
				<details className={css.definition}>
					<summary>Targeting as JSON</summary>
					<Snippet label="Targeting" text={pretty(targetingJson)} />
				</details>
			)}
		</section>
	);
}

function RuleItem({ rule, fallback }: { rule: Rule; fallback: string }) {
	const words = wordsOf(rule.condition);
	return (
		<li className={css.rule}>
			<div>
				<span className={css.keyword}>if </span>
				{words?.map((word, i) => (
					// biome-ignore lint/suspicious/noArrayIndexKey: the words of a condition never move
					<span key={i} className={css[word.role]}>
						{word.text}
					</span>
				))}
				{words === undefined && <Raw json={rule.condition} />}
			</div>
			<div>
				<Serve outcome={rule.outcome} fallback={fallback} />
			</div>
		</li>
	);
}

function Serve({ outcome, fallback }: { outcome: Outcome; fallback: string }) {
	switch (outcome.kind) {
		case "default":
			return (
				<>
					serve the default, <Variant name={fallback} />
				</>
			);
		case "variant":
			return (
				<>
					serve <Variant name={outcome.name} />
				</>
			);
		case "split":
			return <Split outcome={outcome} />;
		case "computed":
			return (
				<>
					serve the variant that this names: <Raw json={outcome.json} />
				</>
			);
	}
}

function Split({ outcome: { by, shares } }: { outcome: Extract<Outcome, { kind: "split" }> }) {
	return (
		<>
			split by <span className={css.attribute}>{by}</span>
			<ul className={css.shares}>
				{shares.map(({ variant, part }, i) => (
					// biome-ignore lint/suspicious/noArrayIndexKey: a split may name a variant twice, and never moves
					<li key={i}>
						<span className={css.percent}>{percent(part)}</span>
						<span className={css.bar} aria-hidden="true">
							<span style={{ width: `${part * 100}%` }} />
						</span>
						<Variant name={variant} />
					</li>
				))}
			</ul>
		</>
	);
}

function Variant({ name }: { name: string }) {
	return <span className={name === codeDefault ? css.codeDefault : css.variant}>{name}</span>;
}

function Raw({ json }: { json: JsonValue }) {
	return <code className={css.raw}>{pretty(json)}</code>;
}
