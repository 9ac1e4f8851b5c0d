CREATE TABLE `uses` (
	`key` text PRIMARY KEY NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `idx_uses_expires_at` ON `uses` (`expires_at`);--> statement-breakpoint
CREATE TABLE `wrapped_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`key_type` text NOT NULL,
	`public_key` blob NOT NULL,
	`wrapped` blob NOT NULL,
	`kek_version` text NOT NULL
);
