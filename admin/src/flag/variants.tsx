import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { isObject, pretty } from "../json.ts";
import css from "./flag.module.css";

/** Variants lists the values a flag can take. */
export function Variants({ flag }: { flag: Flag }) {
	const variants = flag.definition?.variants;
	if (!isObject(variants)) return null;
	return (
		<section>
			<h2>Variants</h2>
			<div className={css.scroll}>
				<table className={css.variants}>
					<thead>
						<tr>
							<th scope="col">Variant</th>
							<th scope="col">Value</th>
						</tr>
					</thead>
					<tbody>
						{Object.entries(variants).map(([name, value]) => (
							<tr key={name}>
								<th scope="row">
									<span className={css.variant}>{name}</span>
									{name === flag.defaultVariant && <span className={css.default}>default</span>}
								</th>
								<td>
									<code className={css.raw}>{pretty(value)}</code>
								</td>
							</tr>
						))}
					</tbody>
				</table>
			</div>
			{flag.defaultVariant === "" && (
				<p className={css.quiet}>No default variant: without a match callers get their own default.</p>
			)}
		</section>
	);
}
