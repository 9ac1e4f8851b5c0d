import type { AttestedNode } from '../core/node.ts'
import type { SpiffeId } from '../core/spiffe-id.ts'
import type { Change, Store } from '../core/store.ts'

/** All attested nodes in memory, kept by the change log: every call of an agent is checked against its row. */
export class NodeIndex {
  readonly #nodes = new Map<SpiffeId, AttestedNode>()

  /** Reads all nodes and follows the changes from then on. */
  static async load(store: Pick<Store, 'nodes' | 'changes'>): Promise<NodeIndex> {
    const index = new NodeIndex()
    const early: Change[] = []
    let take = (changes: readonly Change[]) => {
      early.push(...changes)
    }
    const read = async () => index.#putAll((await store.nodes.list({}, { size: 0, token: '' }, true)).items)
    store.changes.subscribe((changes) => take(changes), read)
    await read()
    take = (changes) => index.apply(changes)
    index.apply(early)
    return index
  }

  get(id: SpiffeId): AttestedNode | undefined {
    return this.#nodes.get(id)
  }

  /** Takes over changes that carry the new value. Those read back from the log carry none and say nothing here. */
  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'node' && change.node !== undefined)
        this.#put(change.key as SpiffeId, change.node ?? undefined)
    }
  }

  #putAll(nodes: readonly AttestedNode[]): void {
    const present = new Set(nodes.map(({ id }) => id))
    for (const id of this.#nodes.keys()) if (!present.has(id)) this.#nodes.delete(id)
    for (const node of nodes) this.#put(node.id, node)
  }

  #put(id: SpiffeId, node: AttestedNode | undefined): void {
    if (!node) {
      this.#nodes.delete(id)
      return
    }
    // Selectors that stayed the same stay the same object: what was computed from them is still good.
    const before = this.#nodes.get(id)
    const same = before && JSON.stringify(before.selectors) === JSON.stringify(node.selectors)
    this.#nodes.set(id, same ? { ...node, selectors: before.selectors } : node)
  }
}
