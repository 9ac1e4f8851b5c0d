import { serverCommand } from '../api-command.ts'
import { readInput } from '../arguments.ts'
import { CommandError, codeName } from '../failure.ts'
import { text } from '../flags.ts'
import { jsonObject } from '../json-input.ts'
import { entries } from './entry-methods.ts'

/** `entry delete`: one entry, or those listed in `{"ids": [...]}`. */
export const command = serverCommand({
  name: 'entry delete',
  flags: {
    entryID: text('The Registration Entry ID of the record to delete.'),
    file: text(
      "Path to a file containing a JSON structure for batch deletion (optional). If set to '-', read from stdin.",
    ),
  },
  async run(flags, call) {
    if (flags.file === '' && flags.entryID === '') throw new CommandError('an entry ID is required')
    const ids =
      flags.file === ''
        ? [flags.entryID]
        : jsonObject(readInput(flags.file, call), 'BatchDeleteEntryRequest').strings('ids')
    call.print(await call.api.call(entries.batchDelete, { ids }), ({ results }) => {
      const failed = results.filter((result) => result.status?.code)
      const deleted = results.filter((result) => !result.status?.code)
      for (const { id } of deleted) call.stdout(`Deleted entry with ID: ${id}\n`)
      if (deleted.length > 0) call.stdout('\n\n')
      for (const { id, status } of failed) {
        const reason = `(code: ${codeName(status!.code)}, msg: ${JSON.stringify(status!.message)})`
        call.stderr(`Failed to delete entry with ID ${id} ${reason}\n`)
      }
      // No newline at the end and never a singular: scripts compare the whole output.
      if (failed.length === 0) {
        call.stdout(`Deleted ${deleted.length} entries successfully`)
        return
      }
      call.stdout(
        deleted.length === 0
          ? `\n\nFailed to delete ${failed.length} entries`
          : `\n\nDeleted ${deleted.length} entries successfully, but failed to delete ${failed.length} entries`,
      )
      throw new CommandError('failed to delete one or more entries')
    })
  },
})
