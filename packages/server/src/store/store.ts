import type { Kysely } from "kysely";
import { StoredAccessKeys } from "./access-keys.ts";
import { AccountQuotas } from "./account-quotas.ts";
import { Accounts } from "./accounts.ts";
import { Checkpoints } from "./checkpoints.ts";
import { IdempotencyTokens } from "./idempotency-tokens.ts";
import { ImageCounts } from "./image-counts.ts";
import { ImageDeletions } from "./image-deletions.ts";
import { Images } from "./images.ts";
import { Microvms } from "./microvms.ts";
import { NetworkConnectors } from "./network-connectors.ts";
import { Receipts } from "./receipts.ts";
import type { Schema } from "./schema.ts";
import { Settings } from "./settings.ts";
import { Templates } from "./templates.ts";

/** What can be written together in one transaction. */
export interface StoreWriter {
  readonly images: Pick<Images, "insert" | "beginUpdate" | "insertVersion" | "hold">;
  readonly imageCounts: ImageCounts;
  readonly microvms: Pick<Microvms, "insert">;
  readonly networkConnectors: Pick<NetworkConnectors, "insert" | "update" | "count">;
  readonly idempotencyTokens: Pick<IdempotencyTokens, "insert">;
}

/** The only SQL of the server. Domain types in, domain types out. */
export class Store {
  readonly images: Images;
  readonly imageCounts: ImageCounts;
  readonly imageDeletions: ImageDeletions;
  readonly templates: Templates;
  readonly microvms: Microvms;
  readonly receipts: Receipts;
  readonly checkpoints: Checkpoints;
  readonly networkConnectors: NetworkConnectors;
  readonly idempotencyTokens: IdempotencyTokens;
  readonly accounts: Accounts;
  readonly accessKeys: StoredAccessKeys;
  readonly accountQuotas: AccountQuotas;
  readonly settings: Settings;
  readonly #db: Kysely<Schema>;
  readonly #release: () => Promise<void>;

  constructor(db: Kysely<Schema>, release: () => Promise<void>) {
    this.#db = db;
    this.#release = release;
    this.images = new Images(db);
    this.imageCounts = new ImageCounts(db);
    this.imageDeletions = new ImageDeletions(db);
    this.templates = new Templates(db);
    this.microvms = new Microvms(db);
    this.receipts = new Receipts(db);
    this.checkpoints = new Checkpoints(db);
    this.networkConnectors = new NetworkConnectors(db);
    this.idempotencyTokens = new IdempotencyTokens(db);
    this.accounts = new Accounts(db);
    this.accessKeys = new StoredAccessKeys(db);
    this.accountQuotas = new AccountQuotas(db);
    this.settings = new Settings(db);
  }

  /** All or nothing. No transaction may span a call to a host. */
  async transaction<T>(work: (write: StoreWriter) => Promise<T>): Promise<T> {
    return await this.#db.transaction().execute(async (trx) =>
      work({
        images: new Images(trx),
        imageCounts: new ImageCounts(trx),
        microvms: new Microvms(trx),
        networkConnectors: new NetworkConnectors(trx),
        idempotencyTokens: new IdempotencyTokens(trx),
      }),
    );
  }

  async close(): Promise<void> {
    await this.#release();
  }
}
