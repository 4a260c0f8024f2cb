// Prints what the first page load transfers, and fails above the ceiling: the
// page, what it names, and the fonts that its styles name. gzip is what counts,
// since browsers take brotli from https and localhost only.
import { readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";

const ceiling = 300_000;
const app = "dist/app";

const html = readFileSync(join(app, "index.html"), "utf8");
const named = [...html.matchAll(/(?:src|href)="\/admin\/([^"]+)"/g)].map(([, path]) => path);
const fonts = named
	.filter((path) => path.endsWith(".css"))
	.flatMap((path) => [...readFileSync(join(app, path), "utf8").matchAll(/assets\/([\w.-]+\.woff2)/g)])
	.map(([, name]) => `assets/${name}`);

const totals = { raw: 0, gzip: 0, brotli: 0 };
for (const path of ["index.html", ...new Set([...named, ...fonts])]) {
	const raw = size(path) ?? 0;
	const gzip = size(`${path}.gz`) ?? raw;
	const brotli = size(`${path}.br`) ?? raw;
	totals.raw += raw;
	totals.gzip += gzip;
	totals.brotli += brotli;
	print(basename(path), raw, gzip, brotli);
}
print("first load", totals.raw, totals.gzip, totals.brotli);
if (totals.gzip > ceiling) {
	process.stderr.write(`the first load is ${totals.gzip - ceiling} bytes above its ceiling of ${ceiling}\n`);
	process.exitCode = 1;
}

function size(path) {
	return statSync(join(app, path), { throwIfNoEntry: false })?.size;
}

function print(name, raw, gzip, brotli) {
	const kilobytes = [raw, gzip, brotli].map((bytes) => `${(bytes / 1000).toFixed(1).padStart(8)}`);
	process.stdout.write(
		`${name.padEnd(56)}${kilobytes[0]} kB  gzip${kilobytes[1]} kB  br${kilobytes[2]} kB\n`,
	);
}
