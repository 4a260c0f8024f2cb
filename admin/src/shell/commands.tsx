import { useMantineColorScheme } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { forgetKey } from "../session/key.ts";
import { Icon, type IconName } from "../theme/icon.tsx";
import css from "./commands.module.css";

const schemes = [
	{ scheme: "light", icon: "sun", label: "Light" },
	{ scheme: "dark", icon: "moon", label: "Dark" },
	{ scheme: "auto", icon: "screen", label: "Like the system" },
] as const satisfies { scheme: string; icon: IconName; label: string }[];

const id = "commands";

/**
 * Commands holds what is about the application and no page's own. The browser
 * itself opens it, closes it on Escape or a click elsewhere, and gives the
 * focus back.
 */
export function Commands({ onHelp }: { onHelp: () => void }) {
	const { colorScheme, setColorScheme } = useMantineColorScheme();
	const client = useQueryClient();
	const navigate = useNavigate();

	async function signOut() {
		forgetKey();
		await navigate({ to: "/sign-in" });
		client.clear();
	}

	return (
		<>
			<button
				type="button"
				popoverTarget={id}
				className={css.button}
				aria-label="Appearance, help and sign out"
			>
				<Icon name="more" size={20} />
			</button>
			<div id={id} popover="auto" className={css.menu}>
				<fieldset className={css.schemes}>
					<legend>Appearance</legend>
					{schemes.map(({ scheme, icon, label }) => (
						<label key={scheme} className={css.item}>
							<input
								type="radio"
								name="scheme"
								checked={colorScheme === scheme}
								onChange={() => setColorScheme(scheme)}
							/>
							<Icon name={icon} />
							{label}
						</label>
					))}
				</fieldset>
				<button
					type="button"
					popoverTarget={id}
					popoverTargetAction="hide"
					className={css.item}
					onClick={onHelp}
				>
					<Icon name="help" />
					Keyboard and search help
				</button>
				<button type="button" className={css.item} onClick={() => void signOut()}>
					<Icon name="leave" />
					Sign out
				</button>
			</div>
		</>
	);
}
