import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

/** compressible names what gains from compression; fonts are compressed already. */
const compressible = /\.(html|js|css|svg|json|txt)$/;

/**
 * compress writes a .br and a .gz beside each text file of the bundle, so that
 * the server never compresses the same bytes twice.
 */
export function compress(): Plugin {
	return {
		name: "compress",
		apply: "build",
		writeBundle({ dir }) {
			for (const path of files(dir ?? "dist")) {
				if (!compressible.test(path)) continue;
				const content = readFileSync(path);
				writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
				writeFileSync(
					`${path}.br`,
					brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: content.length } }),
				);
			}
		},
	};
}

export function files(folder: string): string[] {
	return readdirSync(folder)
		.map((name) => join(folder, name))
		.flatMap((path) => (statSync(path).isDirectory() ? files(path) : [path]));
}
