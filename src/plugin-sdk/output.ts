import { type StdioData, StdioData_Channel } from '../../proto/hashicorp/plugin.ts'

const MAX_BYTES = 64 * 1024

/** What a plugin printed, until the host takes it. While nobody does, the newest 64 KiB are kept. */
export interface PrintedOutput {
  print(channel: 'STDOUT' | 'STDERR', data: Uint8Array): void
  /** Takes what was printed and what will be, until the signal aborts. */
  read(signal: AbortSignal): AsyncIterable<StdioData>
}

export function printedOutput(): PrintedOutput {
  const kept: StdioData[] = []
  let bytes = 0
  let wake = (): void => {}
  return {
    print(channel, data) {
      kept.push({ channel: StdioData_Channel[channel], data })
      bytes += data.length
      while (bytes > MAX_BYTES && kept.length > 1) bytes -= kept.shift()!.data.length
      wake()
    },
    async *read(signal) {
      const onAbort = (): void => wake()
      signal.addEventListener('abort', onAbort)
      try {
        while (!signal.aborted) {
          const next = kept.shift()
          if (next === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve
            })
          } else {
            bytes -= next.data.length
            yield next
          }
        }
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    },
  }
}
