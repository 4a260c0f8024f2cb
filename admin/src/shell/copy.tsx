import { ActionIcon, CopyButton } from "@mantine/core";
import { Icon } from "../theme/icon.tsx";

/** Copy puts a text on the clipboard and says so. */
export function Copy({ text, label }: { text: string; label: string }) {
	return (
		<CopyButton value={text} timeout={1500}>
			{({ copied, copy }) => (
				<ActionIcon
					variant="subtle"
					color={copied ? "petrol" : "gray"}
					size="md"
					onClick={copy}
					title={label}
					aria-label={copied ? "Copied" : label}
				>
					<Icon name={copied ? "check" : "copy"} />
				</ActionIcon>
			)}
		</CopyButton>
	);
}
