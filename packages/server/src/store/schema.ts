/**
 * The tables as Kysely sees them. Rows never leave this folder. Portable types only: texts, whole numbers (times are
 * milliseconds since the epoch, switches 0 or 1), JSON as text.
 */
export interface Schema {
  settings: SettingRow;
  accounts: AccountRow;
  access_keys: AccessKeyRow;
  idempotency_tokens: IdempotencyTokenRow;
  images: ImageRow;
  image_versions: ImageVersionRow;
  builds: BuildRow;
  microvms: MicrovmRow;
  receipts: ReceiptRow;
  checkpoints: CheckpointRow;
  account_quotas: AccountQuotaRow;
  deleted_images: DeletedImageRow;
  network_connectors: NetworkConnectorRow;
}

export interface SettingRow {
  readonly name: string;
  readonly value: string;
}

export interface AccountRow {
  readonly id: string;
  readonly name: string | null;
  readonly enabled: number;
  readonly created_at: number;
}

export interface AccessKeyRow {
  readonly access_key_id: string;
  readonly secret_access_key: string;
  readonly account_id: string;
  readonly principal_arn: string;
  readonly created_at: number;
  readonly name: string;
  readonly sealed_with: string | null;
  readonly policy: string | null;
  readonly enabled: number;
  readonly expires_at: number | null;
  readonly last_used_at: number | null;
}

export interface IdempotencyTokenRow {
  readonly account_id: string;
  readonly operation: string;
  readonly token: string;
  readonly request_digest: string;
  readonly response: string;
  readonly created_at: number;
  readonly resource: string | null;
}

export interface ImageRow {
  readonly arn: string;
  readonly account_id: string;
  readonly name: string;
  readonly generation: number;
  readonly state: string;
  readonly latest_active_version: number | null;
  readonly latest_failed_version: number | null;
  readonly last_version: number;
  readonly tags: string;
  readonly created_at: number;
  readonly updated_at: number;
}

export interface DeletedImageRow {
  readonly arn: string;
  readonly deleted_at: number;
}

export interface ImageVersionRow {
  readonly image_arn: string;
  readonly version: number;
  readonly state: string;
  readonly status: string;
  readonly state_reason: string | null;
  readonly configuration: string;
  readonly created_at: number;
  readonly updated_at: number;
}

export interface BuildRow {
  readonly id: string;
  readonly image_arn: string;
  readonly version: number;
  readonly state: string;
  readonly state_reason: string | null;
  readonly architecture: string;
  readonly chipset: string;
  readonly chipset_generation: string;
  readonly memory_snapshot_bytes: number | null;
  readonly code_install_bytes: number | null;
  readonly disk_snapshot_bytes: number | null;
  readonly created_at: number;
}

export interface MicrovmRow {
  readonly id: string;
  readonly account_id: string;
  readonly label: string;
  readonly generation: number;
  readonly image_arn: string;
  readonly image_version: number;
  readonly template_id: string;
  readonly spec: string;
  readonly started_at: number;
  readonly deadline: number;
  readonly last_activity_at: number;
  readonly state: string;
  readonly run_hook_payload: string | null;
  readonly resuming: number;
  readonly expires_at: number | null;
  readonly reason: string | null;
  readonly terminate_hook: number;
  readonly terminated_at: number | null;
  readonly checkpoint_id: string | null;
  readonly origin_microvm_id: string | null;
  readonly rolled_back_to: string | null;
  readonly rollback_to: string | null;
}

export interface CheckpointRow {
  readonly id: string;
  readonly account_id: string;
  readonly microvm_id: string;
  readonly name: string | null;
  readonly internal: number;
  readonly image_arn: string;
  readonly image_version: number;
  readonly template_id: string;
  readonly spec: string;
  readonly parent_checkpoint_id: string | null;
  readonly created_at: number;
  readonly state: string;
  readonly reason: string | null;
  readonly memory_bytes: number | null;
  readonly disk_bytes: number | null;
}

export interface NetworkConnectorRow {
  readonly id: string;
  readonly account_id: string;
  readonly name: string;
  readonly generation: number;
  readonly state: string;
  readonly configuration: string;
  readonly operator_role: string;
  readonly update_status: string | null;
  readonly update_reason: string | null;
  readonly tags: string;
  readonly created_at: number;
  readonly modified_at: number;
}

export interface AccountQuotaRow {
  readonly account_id: string;
  readonly name: string;
  readonly value: number | null;
}

export interface ReceiptRow {
  readonly subject: string;
  readonly ordinal: number;
  readonly receipt: string;
}
