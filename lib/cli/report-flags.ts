/** The flags of `heed report`. */
export interface ReportFlags {
  out: string;
}
