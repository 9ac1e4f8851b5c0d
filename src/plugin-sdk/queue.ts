/** What one side adds and the other takes, in that order. */
export interface Queue<T> {
  readonly length: number
  add(item: T): void
  /** Takes the oldest. */
  take(): T | undefined
  /** Takes what is there and what will be, until the signal aborts. */
  read(signal: AbortSignal): AsyncIterable<T>
}

/** @param taken told of each item before anybody else can add one */
export function queue<T>(taken: (item: T) => void = () => {}): Queue<T> {
  const items: T[] = []
  let wake = (): void => {}
  const take = (): T | undefined => {
    const item = items.shift()
    if (item !== undefined) taken(item)
    return item
  }
  return {
    get length() {
      return items.length
    },
    add(item) {
      items.push(item)
      wake()
    },
    take,
    async *read(signal) {
      const onAbort = (): void => wake()
      signal.addEventListener('abort', onAbort)
      try {
        while (!signal.aborted) {
          const next = take()
          if (next !== undefined) yield next
          else
            await new Promise<void>((resolve) => {
              wake = resolve
            })
        }
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    },
  }
}
