import { type StdioData, StdioData_Channel } from '../../proto/hashicorp/plugin.ts'
import { queue } from './queue.ts'

const MAX_BYTES = 64 * 1024

/** What a plugin printed, until the host takes it. While nobody does, the newest 64 KiB are kept. */
export interface PrintedOutput {
  print(channel: 'STDOUT' | 'STDERR', data: Uint8Array): void
  /** Takes what was printed and what will be, until the signal aborts. */
  read(signal: AbortSignal): AsyncIterable<StdioData>
}

export function printedOutput(): PrintedOutput {
  let bytes = 0
  const kept = queue<StdioData>(({ data }) => {
    bytes -= data.length
  })
  return {
    print(channel, data) {
      bytes += data.length
      kept.add({ channel: StdioData_Channel[channel], data })
      while (bytes > MAX_BYTES && kept.length > 1) kept.take()
    },
    read: kept.read,
  }
}
