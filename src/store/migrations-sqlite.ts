// Generated from drizzle/sqlite by drizzle/generate.

export const MIGRATIONS: readonly (readonly [name: string, sql: string])[] = [
  [
    '0000_initial.sql',
    `CREATE TABLE \`attested_node_entries\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`spiffe_id\` text NOT NULL,
	\`data_type\` text NOT NULL,
	\`serial_number\` text NOT NULL,
	\`expires_at\` integer NOT NULL,
	\`new_serial_number\` text NOT NULL,
	\`new_expires_at\` integer NOT NULL,
	\`can_reattest\` integer NOT NULL,
	\`agent_version\` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`uix_attested_node_entries_spiffe_id\` ON \`attested_node_entries\` (\`spiffe_id\`);--> statement-breakpoint
CREATE INDEX \`idx_attested_node_entries_expires_at\` ON \`attested_node_entries\` (\`expires_at\`);--> statement-breakpoint
CREATE TABLE \`bundles\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`trust_domain\` text NOT NULL,
	\`sequence_number\` integer NOT NULL,
	\`refresh_hint\` integer NOT NULL,
	\`authorities\` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`uix_bundles_trust_domain\` ON \`bundles\` (\`trust_domain\`);--> statement-breakpoint
CREATE TABLE \`changes\` (
	\`sequence\` integer PRIMARY KEY NOT NULL,
	\`kind\` text NOT NULL,
	\`key\` text NOT NULL,
	\`created_at\` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE \`dns_names\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`registered_entry_id\` integer NOT NULL,
	\`value\` text NOT NULL,
	FOREIGN KEY (\`registered_entry_id\`) REFERENCES \`registered_entries\`(\`id\`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`idx_dns_entry\` ON \`dns_names\` (\`registered_entry_id\`,\`value\`);--> statement-breakpoint
CREATE TABLE \`registered_entries\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`entry_id\` text NOT NULL,
	\`spiffe_id\` text NOT NULL,
	\`parent_id\` text NOT NULL,
	\`ttl\` integer NOT NULL,
	\`jwt_svid_ttl\` integer NOT NULL,
	\`admin\` integer NOT NULL,
	\`downstream\` integer NOT NULL,
	\`expiry\` integer NOT NULL,
	\`revision_number\` integer NOT NULL,
	\`store_svid\` integer NOT NULL,
	\`hint\` text NOT NULL,
	\`created_at\` integer NOT NULL,
	\`disable_x509_svid_prefetch\` integer NOT NULL,
	\`jwt_svid_include_jti\` integer NOT NULL,
	\`fingerprint\` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`uix_registered_entries_entry_id\` ON \`registered_entries\` (\`entry_id\`);--> statement-breakpoint
CREATE INDEX \`idx_registered_entries_spiffe_id\` ON \`registered_entries\` (\`spiffe_id\`);--> statement-breakpoint
CREATE INDEX \`idx_registered_entries_parent_id\` ON \`registered_entries\` (\`parent_id\`);--> statement-breakpoint
CREATE INDEX \`idx_registered_entries_expiry\` ON \`registered_entries\` (\`expiry\`);--> statement-breakpoint
CREATE INDEX \`idx_registered_entries_hint\` ON \`registered_entries\` (\`hint\`);--> statement-breakpoint
CREATE INDEX \`idx_registered_entries_fingerprint\` ON \`registered_entries\` (\`fingerprint\`);--> statement-breakpoint
CREATE TABLE \`federated_registration_entries\` (
	\`bundle_id\` integer NOT NULL,
	\`registered_entry_id\` integer NOT NULL,
	PRIMARY KEY(\`bundle_id\`, \`registered_entry_id\`),
	FOREIGN KEY (\`bundle_id\`) REFERENCES \`bundles\`(\`id\`) ON UPDATE no action ON DELETE cascade,
	FOREIGN KEY (\`registered_entry_id\`) REFERENCES \`registered_entries\`(\`id\`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX \`idx_federated_registration_entries_registered_entry_id\` ON \`federated_registration_entries\` (\`registered_entry_id\`);--> statement-breakpoint
CREATE TABLE \`join_tokens\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`token\` text NOT NULL,
	\`expiry\` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`uix_join_tokens_token\` ON \`join_tokens\` (\`token\`);--> statement-breakpoint
CREATE TABLE \`ca_journals\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`data\` blob NOT NULL,
	\`active_x509_authority_id\` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE \`leases\` (
	\`name\` text PRIMARY KEY NOT NULL,
	\`owner\` text NOT NULL,
	\`expires_at\` integer NOT NULL,
	\`fence\` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE \`node_resolver_map_entries\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`spiffe_id\` text NOT NULL,
	\`type\` text NOT NULL,
	\`value\` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`idx_node_resolver_map\` ON \`node_resolver_map_entries\` (\`spiffe_id\`,\`type\`,\`value\`);--> statement-breakpoint
CREATE INDEX \`idx_node_resolver_map_type_value\` ON \`node_resolver_map_entries\` (\`type\`,\`value\`);--> statement-breakpoint
CREATE TABLE \`federated_trust_domains\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`trust_domain\` text NOT NULL,
	\`bundle_endpoint_url\` text NOT NULL,
	\`bundle_endpoint_profile\` text NOT NULL,
	\`endpoint_spiffe_id\` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`uix_federated_trust_domains_trust_domain\` ON \`federated_trust_domains\` (\`trust_domain\`);--> statement-breakpoint
CREATE TABLE \`selectors\` (
	\`id\` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	\`registered_entry_id\` integer NOT NULL,
	\`type\` text NOT NULL,
	\`value\` text NOT NULL,
	FOREIGN KEY (\`registered_entry_id\`) REFERENCES \`registered_entries\`(\`id\`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX \`idx_selector_entry\` ON \`selectors\` (\`registered_entry_id\`,\`type\`,\`value\`);--> statement-breakpoint
CREATE INDEX \`idx_selectors_type_value\` ON \`selectors\` (\`type\`,\`value\`);`,
  ],
  [
    '0001_shared_keys.sql',
    `CREATE TABLE \`uses\` (
	\`key\` text PRIMARY KEY NOT NULL,
	\`expires_at\` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX \`idx_uses_expires_at\` ON \`uses\` (\`expires_at\`);--> statement-breakpoint
CREATE TABLE \`wrapped_keys\` (
	\`id\` text PRIMARY KEY NOT NULL,
	\`key_type\` text NOT NULL,
	\`public_key\` blob NOT NULL,
	\`wrapped\` blob NOT NULL,
	\`kek_version\` text NOT NULL
);
`,
  ],
]
