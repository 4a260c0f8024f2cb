import { Code } from "@connectrpc/connect";
import { callUnaryMethod } from "@connectrpc/connect-query";
import { Button, PasswordInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import type { FormEvent } from "react";
import { useState } from "react";
import { environmentsQuery } from "../environment/environments.ts";
import { EnvironmentService } from "../gen/guidon/v1/environment_pb.ts";
import { Mark } from "../shell/mark.tsx";
import { useTitle } from "../shell/title.ts";
import { type Fault, faultOf } from "./fault.ts";
import { FaultNote } from "./fault-note.tsx";
import { keepKey } from "./key.ts";
import css from "./session.module.css";
import { transportWith } from "./transport.ts";

/** SignIn takes an API key and keeps it only if the server accepts it. */
export function SignIn({ next, expired }: { next: string; expired: boolean }) {
	useTitle("Sign in");
	const client = useQueryClient();
	const navigate = useNavigate();
	const [text, setText] = useState("");
	const { mutate, isPending, error } = useMutation({
		mutationFn: (key: string) =>
			callUnaryMethod(
				transportWith(() => key),
				EnvironmentService.method.list,
				{ pageSize: 1000 },
			),
		onSuccess: async (environments, key) => {
			keepKey(key);
			client.clear();
			client.setQueryData(environmentsQuery.queryKey, environments);
			await navigate({ href: next, replace: true });
		},
	});
	const key = text.trim();
	const malformed = key !== "" && !/^gdn_[!-~]+$/.test(key);

	function submit(event: FormEvent) {
		event.preventDefault();
		if (key !== "" && !malformed) mutate(key);
	}

	return (
		<main className={css.page}>
			<div className={css.card}>
				<h1 className={css.brand}>
					<Mark size={30} /> Guidon
				</h1>
				<p className={css.lead}>
					{expired
						? "Guidon no longer accepts the key of this tab: it expired or was revoked. Sign in again to go on."
						: "Sign in with an API key. It stays in this tab and is forgotten when the tab closes."}
				</p>
				<form onSubmit={submit} className={css.form} noValidate>
					<PasswordInput
						label="API key"
						placeholder="gdn_admin_…"
						value={text}
						onChange={(event) => setText(event.currentTarget.value)}
						error={malformed ? "An API key starts with gdn_ and has no spaces." : undefined}
						autoComplete="off"
						spellCheck={false}
						visibilityToggleButtonProps={{ "aria-label": "Show the key", tabIndex: 0 }}
						autoFocus
						required
					/>
					{error && <FaultNote fault={refusal(error)} />}
					<Button type="submit" loading={isPending} disabled={key === "" || malformed}>
						Sign in
					</Button>
				</form>
				<p className={css.hint}>
					No key at hand? guidon dev prints one when it starts, and with access to the database anybody can
					make one:
					<code>guidon key create --kind admin --name NAME --database-url URL</code>
				</p>
			</div>
		</main>
	);
}

/** refusal says what a fault means to somebody who is signing in. */
function refusal(error: unknown): Fault {
	const fault = faultOf(error);
	if (fault.code === Code.Unauthenticated) {
		return { ...fault, detail: "It is mistyped, expired or revoked, or it belongs to another installation." };
	}
	if (fault.code === Code.PermissionDenied) {
		return {
			...fault,
			title: "This key may not use the admin UI",
			detail: "Guidon knows the key, but it may not list environments. The admin UI needs an admin key.",
		};
	}
	return fault;
}
